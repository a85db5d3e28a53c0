/**
 * Values for a JSON Schema of the OpenAPI document: mostly such as it allows, now and then such as it does not. Where it asks
 * for an id, a placeholder stands until the call is made: which ids there are is known only then.
 */
import fc from 'fast-check';
import { z } from 'zod';

export interface Schema {
  readonly [keyword: string]: unknown;
}

const anySchema = z.record(z.string(), z.unknown());
const schemas = z.record(z.string(), anySchema);
const texts = z.array(z.string());

/** What an id's pattern begins with, and the words that stand for one. */
const idPattern = /^\^([a-z]+)_\[0-7\]/;
const placeholderPattern = /\{\{id:([a-z]*):(\d+)\}\}/g;
/** Stands where a tenant's own mark goes, so that it is known wherever it turns up again. */
const markPlaceholder = '{{mark}}';

export function idPlaceholder(kind: string): fc.Arbitrary<string> {
  return fc.nat(1_000_000).map((number) => `{{id:${kind}:${number}}}`);
}

/** Puts ids in the places of placeholders. */
export function fillIn(text: string, mark: string, idFor: (kind: string, number: number) => string): string {
  return text
    .replaceAll(placeholderPattern, (_, kind: string, number: string) => idFor(kind, Number(number)))
    .replaceAll(markPlaceholder, mark);
}

const oddText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom(
    '',
    ' ',
    "'; drop table tenants; --",
    "' or 1=1 --",
    '__proto__',
    'constructor',
    'null',
    '-1',
    '1e400',
    '\u0000',
    '\ud800',
    '\u202e\u0301\u{1f469}\u200d\u{1f469}',
    '../../etc/passwd',
    '%00',
    '${7*7}',
    'http://169.254.169.254/latest/meta-data',
    'x'.repeat(5_000),
  ),
);

/** Anything at all, for the places where it is not meant. */
const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  oddText,
  fc.constantFrom(null, true, 0, -1, 1.5, 2 ** 53, 1e308, [], {}, [[]], { a: { b: [] } }),
  fc.jsonValue({ maxDepth: 2 }),
);

/** @param components by name, for `$ref` */
export function valuesOf(
  schema: Schema,
  components: Readonly<Record<string, Schema>>,
): fc.Arbitrary<unknown> {
  const fitting = fittingValues(schema, components, 0);
  return fc.oneof({ weight: 14, arbitrary: fitting }, { weight: 1, arbitrary: oddValue });
}

const deepest = 6;

function fittingValues(
  schema: Schema,
  components: Readonly<Record<string, Schema>>,
  depth: number,
): fc.Arbitrary<unknown> {
  const inner = (part: unknown): fc.Arbitrary<unknown> => {
    const parsed = anySchema.safeParse(part);
    return parsed.success && depth < deepest
      ? fittingValues(parsed.data, components, depth + 1)
      : fc.constant(null);
  };
  const { $ref, anyOf, oneOf, enum: choices, const: only, type } = schema;
  if (typeof $ref === 'string') return inner(components[$ref.slice($ref.lastIndexOf('/') + 1)]);
  const branches = z.array(anySchema).safeParse(anyOf ?? oneOf);
  if (branches.success && branches.data.length > 0) return fc.oneof(...branches.data.map(inner));
  if ('const' in schema) return fc.constant(only);
  if (Array.isArray(choices) && choices.length > 0)
    return fc.constantFrom(...z.array(z.unknown()).parse(choices));
  switch (type) {
    case 'string':
      return fittingText(schema);
    case 'integer':
      return fc.integer(bounds(schema, 1_000));
    case 'number':
      return fc.oneof(fc.integer(bounds(schema, 1_000)), fc.constantFrom(0.5, 1));
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(inner(schema['items'] ?? {}), arrayBounds(schema));
    case 'object':
      return fittingObject(schema, inner);
    default:
      return oddValue;
  }
}

function numberOr(value: unknown, fallback: number): number {
  return typeof value === 'number' ? value : fallback;
}

/** Within the schema's own bounds, at most `span` wide, its ends among them. */
function bounds({ minimum, maximum }: Schema, span: number): { min: number; max: number } {
  const min = Math.max(numberOr(minimum, 0), -(2 ** 31));
  return { min, max: Math.max(min, Math.min(numberOr(maximum, min + span), 2 ** 31 - 1)) };
}

function arrayBounds({ minItems, maxItems }: Schema): { minLength: number; maxLength: number } {
  const minLength = Math.min(numberOr(minItems, 0), 3);
  return { minLength, maxLength: Math.max(minLength, Math.min(numberOr(maxItems, 3), 3)) };
}

function fittingText({ pattern, format, minLength, maxLength }: Schema): fc.Arbitrary<string> {
  if (format === 'date-time') return timeText;
  if (format === 'date') return timeText.map((time) => time.slice(0, 10));
  if (format === 'uri') return fc.constantFrom('https://hooks.example.com/x', 'http://127.0.0.1:9/v1');
  const source = typeof pattern === 'string' ? pattern : '';
  const kind = idPattern.exec(source)?.[1];
  if (kind !== undefined) return idPlaceholder(kind);
  if (source === '^[0-9A-Za-z]{12}$') return idPlaceholder('key');
  if (source !== '') return fc.stringMatching(new RegExp(source)).map((text) => text.slice(0, 200));
  const most = numberOr(maxLength, 200);
  const least = Math.max(1, numberOr(minLength, 1));
  return fc
    .oneof(
      { weight: 6, arbitrary: fc.constant(markPlaceholder) },
      {
        weight: 2,
        arbitrary: fc.string({ minLength: least, maxLength: Math.max(least, Math.min(most, 20)) }),
      },
      { weight: 1, arbitrary: oddText },
      { weight: 1, arbitrary: idPlaceholder('') },
    )
    .map((text) => (text.startsWith('{{') ? text : text.slice(0, most)));
}

const dayMs = 86_400_000;
const timeText = fc
  .integer({ min: -30, max: 60 })
  .map((days) => new Date(Math.floor(Date.now() / dayMs) * dayMs + days * dayMs).toISOString());

function fittingObject(
  schema: Schema,
  inner: (part: unknown) => fc.Arbitrary<unknown>,
): fc.Arbitrary<unknown> {
  const properties = schemas.safeParse(schema['properties'] ?? {});
  const required = texts.safeParse(schema['required'] ?? []);
  const named = Object.entries(properties.success ? properties.data : {});
  const known = fc.record(Object.fromEntries(named.map(([name, part]) => [name, inner(part)])), {
    requiredKeys: named
      .map(([name]) => name)
      .filter((name) => !required.success || required.data.includes(name)),
  });
  const additional = anySchema.safeParse(schema['additionalProperties']);
  const isOpen = additional.success && named.length === 0;
  const further = isOpen
    ? fc.dictionary(fc.constantFrom('a', 'b', markPlaceholder), inner(additional.data), { maxKeys: 2 })
    : fc.constant({});
  const stray = fc.oneof(
    { weight: 30, arbitrary: fc.constant({}) },
    { weight: 1, arbitrary: fc.record({ role: oddValue, tenant_id: idPlaceholder('ten') }) },
  );
  return fc.tuple(known, further, stray).map(([own, more, odd]) => ({ ...own, ...more, ...odd }));
}
