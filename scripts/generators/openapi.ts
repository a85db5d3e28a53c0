/** contracts/src/generated/openapi.json: OpenAPI 3.1 of every endpoint, in the order of paths and methods. */
import * as contracts from '@stoa/contracts';
import type { Endpoint, EndpointResponse, ErrorCode, ErrorRow } from '@stoa/contracts';
import { z } from 'zod';
import { listEndpoints } from '../endpoints.ts';
import type { Generator } from './generator.ts';

type Json = Record<string, unknown>;

const bearer = { tenantKey: [] };
const operatorBearer = { operatorKey: [] };

/**
 * Objects that contracts exports become components under their name. zod takes names, like descriptions, from its
 * global registry, so they are added there; this process does nothing else with it.
 */
function nameSchemas(): void {
  for (const [name, value] of Object.entries<unknown>(contracts)) {
    if (!(value instanceof z.ZodObject) || z.globalRegistry.get(value)?.id !== undefined) continue;
    const id = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
    z.globalRegistry.add(value, { ...z.globalRegistry.get(value), id });
  }
}

/**
 * JSON Schema of what a caller may send (`input`: defaults may be left out) or gets back (`output`: fields may be
 * added later). Named parts go to `components`, those of an input with `Input` behind their name.
 */
function jsonSchema(schema: z.ZodType, io: 'input' | 'output', components: Json): Json {
  const { $schema: _, ...whole } = z.toJSONSchema(schema, {
    target: 'draft-2020-12',
    unrepresentable: 'any',
    io,
    override: ({ jsonSchema: part }) => {
      // zod states a date both as a format and as a long pattern; the format says it all.
      if (part.format === 'date-time') delete part.pattern;
      if (io === 'output' && part.additionalProperties === false) delete part.additionalProperties;
    },
  });
  const suffix = io === 'input' ? 'Input' : '';
  const text = JSON.stringify(whole).replace(/"#\/\$defs\/(\w+)"/g, `"#/components/schemas/$1${suffix}"`);
  const moved: unknown = JSON.parse(text);
  if (!isJson(moved)) throw new Error('a schema is not an object');
  const { $defs, id: __, ...rest } = moved;
  for (const [name, part] of Object.entries(isJson($defs) ? $defs : {})) {
    if (isJson(part)) components[`${name}${suffix}`] = withoutId(part);
  }
  return rest;
}

function withoutId({ id: _, ...rest }: Json): Json {
  return rest;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parameters(
  schema: z.ZodType | undefined,
  place: 'path' | 'query',
  example: Json,
  components: Json,
): Json[] {
  if (!schema) return [];
  const { properties, required } = jsonSchema(schema, 'input', components);
  const names = Array.isArray(required) ? required : [];
  return Object.entries(isJson(properties) ? properties : {}).map(([name, property]) => ({
    name,
    in: place,
    required: place === 'path' || names.includes(name),
    ...(isJson(property) && 'description' in property ? { description: property['description'] } : {}),
    schema: property,
    ...(name in example ? { example: example[name] } : {}),
  }));
}

function answer(response: EndpointResponse, components: Json): Json {
  if (!response.schema) return { description: response.description };
  const contentType = response.contentType ?? 'application/json';
  return {
    description: response.description,
    content: { [contentType]: { schema: jsonSchema(response.schema, 'output', components) } },
  };
}

/** One answer per status, with the codes that come with it. */
function errorAnswers(endpoint: Endpoint): Json {
  const common = endpoint.access === 'anyone' ? [] : contracts.commonErrors;
  const codes = [...new Set<ErrorCode>([...endpoint.errors, ...common])];
  const answers: Json = {};
  for (const code of codes) {
    const { status }: ErrorRow = contracts.errorTable[code];
    const group = codes.filter((other) => contracts.errorTable[other].status === status);
    answers[status] = {
      description: group.map((name) => `\`${name}\``).join(', '),
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
    };
  }
  return answers;
}

function security({ access }: Endpoint): Json[] {
  if (access === 'anyone') return [];
  return [contracts.isOperatorPermission(access.permission) ? operatorBearer : bearer];
}

function headers(endpoint: Endpoint): Json[] {
  if (endpoint.idempotent !== 'key') return [];
  const description = 'The same key with the same body within 24 hours gets the first answer again';
  return [
    { name: 'Idempotency-Key', in: 'header', required: false, description, schema: { type: 'string' } },
  ];
}

function operation(endpoint: Endpoint, components: Json): Json {
  const { example, body, access } = endpoint;
  const answers = Object.entries(endpoint.responses).map(([status, response]) => [
    status,
    answer(response, components),
  ]);
  const inputs = [
    ...parameters(endpoint.params, 'path', example.params ?? {}, components),
    ...parameters(endpoint.query, 'query', example.query ?? {}, components),
    ...headers(endpoint),
  ];
  const sample = example.body === undefined ? {} : { example: example.body };
  return {
    operationId: endpoint.id,
    summary: endpoint.summary,
    tags: [endpoint.id.split('.')[0]],
    'x-stoa-listener': endpoint.listener,
    ...(typeof access === 'object' ? { 'x-stoa-permission': access.permission } : {}),
    security: security(endpoint),
    ...(inputs.length > 0 ? { parameters: inputs } : {}),
    ...(body
      ? {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: jsonSchema(body, 'input', components), ...sample } },
          },
        }
      : {}),
    responses: { ...errorAnswers(endpoint), ...Object.fromEntries(answers) },
  };
}

const errorSchema = z.object({
  type: z.string().describe('Reference to the page of the code'),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable().describe('The field at fault, as in messages[0].role'),
    code: z.enum(Object.keys(contracts.errorTable)),
  }),
});

/** A `$ref` to a component that is not there would pass every parser of JSON and break every reader of OpenAPI. */
function requireComponents(text: string, components: Json): void {
  const names = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name = '']) => name);
  const missing = names.filter((name) => !Object.hasOwn(components, name));
  if (missing.length > 0) throw new Error(`no such component: ${missing.join(', ')}`);
}

function buildDocument(): Json {
  nameSchemas();
  const paths: Record<string, Json> = {};
  const components: Json = { Error: jsonSchema(errorSchema, 'output', {}) };
  for (const endpoint of listEndpoints()) {
    // `{id*}` takes slashes; OpenAPI has no word for that, and a client encodes them anyway.
    const path = endpoint.path.replaceAll('*}', '}');
    paths[path] = {
      ...paths[path],
      [endpoint.method.toLowerCase()]: operation(endpoint, components),
    };
  }
  requireComponents(JSON.stringify([paths, components]), components);
  return {
    openapi: '3.1.0',
    info: {
      title: 'Stoa',
      version: '1',
      description:
        'Operations with `x-stoa-listener: public` are served to tenants, those with `admin` to the operator on a listener of their own.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: components,
      securitySchemes: {
        tenantKey: { type: 'http', scheme: 'bearer', bearerFormat: 'stoa_sk_...' },
        operatorKey: { type: 'http', scheme: 'bearer', bearerFormat: 'stoa_op_...' },
      },
    },
  };
}

export const openApiDocument: Generator = {
  path: 'contracts/src/generated/openapi.json',
  produce: async () => `${JSON.stringify(buildDocument(), null, 2)}\n`,
};
