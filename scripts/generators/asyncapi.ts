/**
 * The published schemas of all events, and AsyncAPI 3.0 of them as outside consumers get them: CloudEvents 1.0, in the
 * structured and in the binary form of its HTTP binding.
 */
import path from 'node:path';
import { eventDeclaration, eventTable, isEventType, type EventType } from '@stoa/contracts';
import { findBreaks, publishedPath, readPublished } from '../events/compatibility.ts';
import { eventSchemas, type Json } from '../events/schemas.ts';
import type { Generator } from './generator.ts';

const root = path.resolve(import.meta.dirname, '../..');
const types = Object.keys(eventTable).filter(isEventType).sort();

/**
 * What readers were promised. Throws where the sources would break one, so that generating can't wipe a promise away;
 * a type that nobody has read yet is taken back by editing the file.
 */
export const publishedEvents: Generator = {
  path: publishedPath,
  produce: async () => {
    const current = eventSchemas();
    const breaks = findBreaks(readPublished(root) ?? {}, current);
    if (breaks.length > 0) throw new Error(`readers of events would break:\n${breaks.join('\n')}`);
    return `${JSON.stringify(current, null, 2)}\n`;
  },
};

interface Attribute {
  readonly schema: Json;
  readonly isOptional?: true;
}

/** The context attributes, `type` apart. All values are strings on the wire, whatever the form. */
const attributes: Readonly<Record<string, Attribute>> = {
  id: typeId('evt', 'Unique; the same event may arrive more than once, with the same id'),
  source: { schema: { type: 'string', pattern: '^/[a-z]+$', description: 'The module that tells it' } },
  time: { schema: { type: 'string', format: 'date-time', description: 'When it happened' } },
  tenantid: typeId('ten', 'The tenant whose event it is'),
  partitionkey: { schema: { type: 'string', description: 'What it is about; order holds within it' } },
  keyversion: {
    schema: {
      type: 'string',
      pattern: '^[1-9][0-9]*$',
      description: '1, 2, 3 within tenant, type and key, as decimal digits: it may be larger than 32 bits',
    },
  },
  causationid: { ...typeId('evt', 'The event that led to this one'), isOptional: true },
  traceparent: {
    schema: { type: 'string', description: 'The trace that it belongs to, in the form of W3C Trace Context' },
    isOptional: true,
  },
};

function typeId(prefix: string, description: string): Attribute {
  return { schema: { type: 'string', pattern: `^${prefix}_[0-7][0-9a-hjkmnp-tv-z]{25}$`, description } };
}

function required(prefix: string): string[] {
  const names = Object.entries(attributes).filter(([, attribute]) => attribute.isOptional !== true);
  return names.map(([name]) => `${prefix}${name}`);
}

function attributeSchemas(prefix: string): Json {
  return Object.fromEntries(
    Object.entries(attributes).map(([name, { schema }]) => [`${prefix}${name}`, schema]),
  );
}

function structured(type: EventType): Json {
  const { sentence, keyedBy, example } = eventDeclaration(type);
  return {
    name: type,
    title: type,
    summary: sentence,
    description: `Key: ${keyedBy}.`,
    contentType: 'application/cloudevents+json',
    payload: {
      type: 'object',
      required: ['specversion', 'type', 'datacontenttype', ...required(''), 'data'],
      properties: {
        specversion: { const: '1.0' },
        type: { const: type },
        datacontenttype: { const: 'application/json' },
        ...attributeSchemas(''),
        data: { $ref: `#/components/schemas/${type}` },
      },
    },
    examples: [{ name: 'example', payload: { ...exampleAttributes(type), data: example } }],
  };
}

function binary(type: EventType): Json {
  const { sentence, example } = eventDeclaration(type);
  return {
    name: `${type}.binary`,
    title: `${type}, binary form`,
    summary: sentence,
    description: 'Attributes are headers, percent-encoded outside of printable ASCII; the body is the data.',
    contentType: 'application/json',
    headers: {
      type: 'object',
      required: ['ce-specversion', 'ce-type', ...required('ce-')],
      properties: {
        'ce-specversion': { const: '1.0' },
        'ce-type': { const: type },
        ...attributeSchemas('ce-'),
      },
    },
    payload: { $ref: `#/components/schemas/${type}` },
    examples: [{ name: 'example', payload: example }],
  };
}

function exampleAttributes(type: EventType): Json {
  const { key, example, toldBy } = eventDeclaration(type);
  return {
    specversion: '1.0',
    id: 'evt_01h455vb4pex5vsknk084sn02q',
    source: `/${toldBy[0]}`,
    type,
    time: '2026-03-01T12:00:00.000Z',
    datacontenttype: 'application/json',
    tenantid: 'ten_01h455vb4pex5vsknk084sn02q',
    partitionkey: key(example),
    keyversion: '1',
  };
}

function channel(type: EventType): Json {
  return {
    // Every consumer has an address of its own.
    address: null,
    title: type,
    description: `${eventDeclaration(type).sentence} Told by: ${eventDeclaration(type).toldBy.join(', ')}.`,
    messages: {
      structured: { $ref: `#/components/messages/${type}` },
      binary: { $ref: `#/components/messages/${type}.binary` },
    },
  };
}

function operation(type: EventType): Json {
  const at = `#/channels/${type}`;
  return {
    action: 'send',
    channel: { $ref: at },
    summary: eventDeclaration(type).sentence,
    messages: [{ $ref: `${at}/messages/structured` }, { $ref: `${at}/messages/binary` }],
  };
}

function byType(make: (type: EventType) => Json, name: (type: EventType) => string = (type) => type): Json {
  return Object.fromEntries(types.map((type) => [name(type), make(type)]));
}

/** The whole document; a test reads it without the file. */
export function asyncApi(): Json {
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Events of Stoa',
      version: '1',
      description:
        'Facts, past tense, at least once and in order per key. An event only ever gains optional fields within its version; pass over fields and open words that you do not know. Attributes hold ids in TypeID form, the data holds them as Stoa stores them: UUIDs.',
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    channels: byType(channel),
    operations: byType(operation, (type) => `tell.${type}`),
    components: {
      schemas: { ...eventSchemas() },
      messages: { ...byType(structured), ...byType(binary, (type) => `${type}.binary`) },
    },
  };
}

export const asyncApiDocument: Generator = {
  path: 'docs/reference/asyncapi.json',
  produce: async () => `${JSON.stringify(asyncApi(), null, 2)}\n`,
};
