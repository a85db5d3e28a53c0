/** The operations of the generated OpenAPI document, and calls of them that fast-check makes up. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { z } from 'zod';
import { everyEndpoint } from '../bad-input/endpoints.ts';
import { idPlaceholder, type Schema, valuesOf } from './values-of-schema.ts';

const schema = z.record(z.string(), z.unknown());
const documentShape = z.object({
  paths: z.record(
    z.string(),
    z.record(
      z.string(),
      z.looseObject({
        operationId: z.string(),
        parameters: z.array(z.looseObject({ name: z.string(), in: z.string(), schema })).optional(),
        requestBody: z
          .looseObject({ content: z.object({ 'application/json': z.looseObject({ schema }) }) })
          .optional(),
      }),
    ),
  ),
  components: z.object({ schemas: z.record(z.string(), schema) }),
});

/** A call before it is known who makes it with which ids. */
export interface Step {
  /** Id of an endpoint. */
  readonly operation: string;
  /** Which of the callers, and which of its credentials; taken by remainder. */
  readonly caller: number;
  readonly credential: number;
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  /** JSON with placeholders; undefined for no body. */
  readonly body: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

const file = join(import.meta.dirname, '../../contracts/src/generated/openapi.json');

/**
 * What the fuzz leaves out: what would end or starve the fuzz itself (its own tenants), and what makes providers that the
 * models of all tenants would be asked of.
 */
const leftOut: readonly string[] = [
  'tenants.delete',
  'tenants.change',
  'providers.create',
  'providers.change',
  'providers.delete',
  'control_models.create',
  'control_models.change',
  'control_models.delete',
  'operator_policy.replace',
  'operator_keys.revoke',
  'metrics.read',
  'openapi.read',
  'tenant_key_policy.replace',
  'key_policy.replace',
];

/** Kinds of ids by the name of a parameter whose schema does not say. */
function kindOf(path: string, name: string): string {
  if (name === 'key_id' || (name === 'id' && /\/(?:operator-)?keys\/\{id\}/.test(path))) return 'key';
  return '';
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** Every operation with what it can be called with. */
export function stepsOf(): fc.Arbitrary<Step> {
  const document = documentShape.parse(JSON.parse(readFileSync(file, 'utf8')));
  const components: Readonly<Record<string, Schema>> = document.components.schemas;
  const told = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.values(methods).map((operation) => ({ path, operation })),
  );
  const arbitraries = everyEndpoint
    .filter(({ id }) => !leftOut.includes(id))
    .map((endpoint) => {
      const found = told.find(({ operation }) => operation.operationId === endpoint.id);
      if (found === undefined) throw new Error(`${endpoint.id} is not in the document: npm run generate`);
      const { parameters = [], requestBody } = found.operation;
      const values = (place: string) =>
        parameters
          .filter((parameter) => parameter.in === place)
          .map(({ name, schema: part }): [string, fc.Arbitrary<string>] => {
            const kind = kindOf(endpoint.path, name);
            const fitting = valuesOf(part, components).map(textOf);
            return [
              name,
              kind === '' ? fitting : fc.oneof({ weight: 9, arbitrary: idPlaceholder(kind) }, fitting),
            ];
          });
      const body = requestBody?.content['application/json'].schema;
      const base: fc.Arbitrary<Step> = fc.record({
        operation: fc.constant(endpoint.id),
        caller: fc.nat(1_000),
        credential: fc.nat(1_000),
        params: textsOf(values('path')),
        query: textsOf(values('query')).chain(someOf),
        body:
          body === undefined ? fc.constant(undefined) : bodyTexts(body, components, endpoint.example.body),
        headers: someHeaders,
      });
      return { weight: endpoint.method === 'POST' ? 3 : 2, arbitrary: base };
    });
  return fc.oneof(...arbitraries);
}

function textsOf(
  values: readonly (readonly [string, fc.Arbitrary<string>])[],
): fc.Arbitrary<Record<string, string>> {
  const texts = fc.tuple(...values.map(([, value]) => value));
  return texts.map((all) => Object.fromEntries(values.map(([name], at) => [name, all[at] ?? ''])));
}

function someOf(values: Readonly<Record<string, string>>): fc.Arbitrary<Record<string, string>> {
  return fc
    .subarray(Object.entries(values))
    .map((some): Record<string, string> => Object.fromEntries(some.map(([name, value]) => [name, value])));
}

const someHeaders: fc.Arbitrary<Record<string, string>> = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Record<string, string>>({}) },
  { weight: 1, arbitrary: fc.record({ 'if-match': fc.constantFrom('"1"', '"2"', '*', 'x') }) },
  { weight: 1, arbitrary: fc.record({ 'idempotency-key': fc.constantFrom('one', 'two', 'three') }) },
);

function bodyTexts(
  part: Schema,
  components: Readonly<Record<string, Schema>>,
  example: unknown,
): fc.Arbitrary<string> {
  const fitting = valuesOf(part, components).map((value) => JSON.stringify(value));
  return fc.oneof(
    { weight: 10, arbitrary: fitting },
    { weight: 5, arbitrary: fc.constant(JSON.stringify(example ?? {})) },
    { weight: 1, arbitrary: fc.constantFrom('', '{', '[]', 'null', '{"a":1,"a":2}', '"text"') },
  );
}
