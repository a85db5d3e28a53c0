/**
 * Whether published events can still be read after a change of their schemas.
 *
 * The log, the dead letters and every replay hold events of yesterday, and readers of yesterday meet events of today:
 * both directions must hold. So whatever is published stays as it is. Only this may come: a new type, an optional field,
 * a further word of an open list, and other words in a description.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { knownWords } from '@stoa/contracts';
import { type EventSchemas, isJson, type Json } from './schemas.ts';

/** The schemas as they were published, below the root; `npm run generate` adds to it and never takes away. */
export const publishedPath = 'contracts/src/generated/events.json';

/** Compared by rules of their own, or of no meaning to a reader. */
const namedApart = new Set([
  'properties',
  'required',
  'items',
  'anyOf',
  'enum',
  'const',
  'additionalProperties',
  'propertyNames',
  knownWords,
  'description',
  'title',
  'default',
  'examples',
]);

/** One line for each change that would break a reader, empty where there is none. */
export function findBreaks(published: EventSchemas, current: EventSchemas): string[] {
  return Object.entries(published).flatMap(([type, schema]) => {
    const now = current[type];
    if (!now) return [`${type} was removed or renamed: its readers would wait in vain`];
    return compare(`${type}: data`, schema, now);
  });
}

/** What was published, as the file below `root` has it; null where there is no file. Throws where it is no such file. */
export function readPublished(root: string): EventSchemas | null {
  let text: string;
  try {
    text = readFileSync(path.join(root, publishedPath), 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
  const value: unknown = JSON.parse(text);
  if (!isJson(value)) throw new Error(`${publishedPath} is no object of schemas`);
  const schemas: Record<string, Json> = {};
  for (const [type, schema] of Object.entries(value)) {
    if (!isJson(schema)) throw new Error(`${publishedPath}: the schema of ${type} is no object`);
    schemas[type] = schema;
  }
  return schemas;
}

function compare(at: string, before: Json, after: Json): string[] {
  const was = alternativesOf(before);
  const is = alternativesOf(after);
  const breaks: string[] = [];
  if (!was.isNullable && is.isNullable) breaks.push(`${at} may be null now: readers don't expect that`);
  if (was.isNullable && !is.isNullable) breaks.push(`${at} can't be null any more: events in the log may be`);
  if (was.schemas.length !== is.schemas.length) {
    breaks.push(
      `${at} has ${is.schemas.length} alternatives instead of ${was.schemas.length}: the union is closed`,
    );
    return breaks;
  }
  for (const [index, schema] of was.schemas.entries()) {
    breaks.push(...compareOne(at, schema, is.schemas[index] ?? {}));
  }
  return breaks;
}

/** What a value may be, null apart: a list of schemas, or of types that share the rest. */
function alternativesOf(schema: Json): { isNullable: boolean; schemas: Json[] } {
  const { anyOf, type } = schema;
  const types = Array.isArray(type) ? type : [type];
  const parts: Json[] = Array.isArray(anyOf)
    ? anyOf.filter(isJson)
    : types.map((one: unknown) => (one === undefined ? schema : { ...schema, type: one }));
  const schemas = parts.filter((part) => part['type'] !== 'null');
  return { isNullable: schemas.length < parts.length, schemas };
}

function compareOne(at: string, before: Json, after: Json): string[] {
  if (show(before['type']) !== show(after['type'])) {
    return [`${at} changed its type from ${show(before['type'])} to ${show(after['type'])}`];
  }
  return [
    ...compareWords(at, before, after),
    ...compareFields(at, before, after),
    ...comparePart(`${at}[]`, before['items'], after['items']),
    ...comparePart(`${at}.*`, before['additionalProperties'], after['additionalProperties']),
    ...comparePart(`${at} (its names)`, before['propertyNames'], after['propertyNames']),
    ...compareRest(at, before, after),
  ];
}

/** Closed lists of words (`enum`) stay; open ones may grow. */
function compareWords(at: string, before: Json, after: Json): string[] {
  const was = closedWords(before);
  const is = closedWords(after);
  if (was !== null || is !== null) {
    if (was === null) return [`${at} takes only certain words now: events in the log may hold others`];
    if (is === null) return [`${at} takes any word now: readers count on the closed list`];
    return [
      ...was.filter((word) => !is.includes(word)).map((word) => `${at} lost the value ${word}`),
      ...is
        .filter((word) => !was.includes(word))
        .map((word) => `${at} gained the value ${word}: the list is closed, readers don't know it`),
    ];
  }
  const told = textsOf(after[knownWords]);
  return textsOf(before[knownWords])
    .filter((word) => !told.includes(word))
    .map((word) => `${at} lost the word ${word}: its readers would wait in vain`);
}

function closedWords(schema: Json): string[] | null {
  if (Array.isArray(schema['enum'])) return textsOf(schema['enum']);
  return 'const' in schema ? [show(schema['const'])] : null;
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(show) : [];
}

function compareFields(at: string, before: Json, after: Json): string[] {
  const was = isJson(before['properties']) ? before['properties'] : {};
  const is = isJson(after['properties']) ? after['properties'] : {};
  const hadToBe = textsOf(before['required']);
  const hasToBe = textsOf(after['required']);
  const breaks: string[] = [];
  for (const [name, schema] of Object.entries(was)) {
    const field = `${at}.${name}`;
    const now = is[name];
    if (!isJson(now) || !isJson(schema)) {
      breaks.push(`${field} was removed or renamed: readers count on it`);
      continue;
    }
    const wasRequired = hadToBe.includes(show(name));
    const isRequired = hasToBe.includes(show(name));
    if (wasRequired && !isRequired) breaks.push(`${field} became optional: readers count on it`);
    if (!wasRequired && isRequired) breaks.push(`${field} became required: events in the log may lack it`);
    breaks.push(...compare(field, schema, now));
  }
  for (const name of Object.keys(is)) {
    if (name in was || !hasToBe.includes(show(name))) continue;
    breaks.push(`${at}.${name} is new and required: events in the log lack it; make it optional`);
  }
  return breaks;
}

function comparePart(at: string, before: unknown, after: unknown): string[] {
  if (isJson(before) && isJson(after)) return compare(at, before, after);
  return show(before) === show(after) ? [] : [`${at} changed from ${show(before)} to ${show(after)}`];
}

/** Patterns, formats, bounds and whatever else there is: equal or changed. */
function compareRest(at: string, before: Json, after: Json): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names]
    .filter((name) => !namedApart.has(name) && show(before[name]) !== show(after[name]))
    .map((name) => `${at} changed its ${name} from ${show(before[name])} to ${show(after[name])}`);
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
