/** The JSON Schemas of all events, as readers get them. */
import { eventDeclaration, eventTable, isEventType } from '@stoa/contracts';
import { z } from 'zod';

export type Json = Record<string, unknown>;

/** By event type. */
export type EventSchemas = Readonly<Record<string, Json>>;

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * JSON Schema of what is written: defaults are filled in, and further fields may come. Draft 7, which AsyncAPI builds
 * on. Whole: parts that another generator has given a name stand where they are used.
 */
export function dataSchema(schema: z.ZodType): Json {
  const { $schema: _, ...whole } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'output',
    override: ({ jsonSchema: part }) => {
      // zod states these both as a format and as a long pattern; the format says it all.
      if (part.format === 'date-time' || part.format === 'uuid') delete part.pattern;
      if (part.additionalProperties === false) delete part.additionalProperties;
    },
  });
  const { definitions, id: __, ...rest } = whole;
  const inlined = inline(rest, isJson(definitions) ? definitions : {});
  if (!isJson(inlined)) throw new Error('a schema is not an object');
  return inlined;
}

function inline(value: unknown, definitions: Json): unknown {
  if (Array.isArray(value)) return value.map((item) => inline(item, definitions));
  if (!isJson(value)) return value;
  const { $ref: reference, ...rest } = value;
  if (typeof reference === 'string') {
    const named = definitions[reference.replace('#/definitions/', '')];
    if (!isJson(named)) throw new Error(`no such definition: ${reference}`);
    const { id: _, ...definition } = named;
    return inline({ ...definition, ...rest }, definitions);
  }
  return Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, inline(part, definitions)]));
}

/** Of the table in contracts, in the order of the types. */
export function eventSchemas(): EventSchemas {
  const types = Object.keys(eventTable).filter(isEventType).sort();
  return Object.fromEntries(types.map((type) => [type, dataSchema(eventDeclaration(type).schema)]));
}
