import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { z } from 'zod';
import { events } from './checks/steps.ts';
import { findBreaks, publishedPath } from './events/compatibility.ts';
import { dataSchema, eventSchemas } from './events/schemas.ts';

const root = path.resolve(import.meta.dirname, '..');

/** An open word as contracts declare it. */
function open(...words: string[]) {
  return z.string().meta({ 'x-known-words': words });
}

const published = {
  id: z.uuid(),
  count: z.number().int().min(0),
  note: z.string().optional(),
  outcome: z.enum(['good', 'bad']),
  change: open('made', 'gone'),
  error: z.object({ code: z.string() }).nullable(),
  steps: z.array(z.object({ name: z.string() })),
  tags: z.record(z.string(), z.string()),
  either: z.union([z.string(), z.number()]),
};

function breaksOf(changed: z.ZodRawShape | null): string[] {
  const before = { 'thing.happened.v1': dataSchema(z.object(published)) };
  return findBreaks(before, changed === null ? {} : { 'thing.happened.v1': dataSchema(z.object(changed)) });
}

function without<Name extends keyof typeof published>(name: Name) {
  const { [name]: _, ...rest } = published;
  return rest;
}

const harmless: [string, z.ZodRawShape][] = [
  ['nothing', published],
  ['an optional field', { ...published, extra: z.string().optional() }],
  [
    'an optional field deep inside',
    {
      ...published,
      steps: z.array(z.object({ name: z.string(), note: z.string().nullable().optional() })),
    },
  ],
  ['a further open word', { ...published, change: open('made', 'gone', 'restored') }],
  ['another description', { ...published, count: published.count.describe('How many') }],
  ['another order of fields', Object.fromEntries(Object.entries(published).reverse())],
];

for (const [name, changed] of harmless) {
  test(`readers stand ${name}`, () => {
    assert.deepEqual(breaksOf(changed), []);
  });
}

const at = 'thing.happened.v1: data';
const breaking: [string, z.ZodRawShape | null, string][] = [
  ['the type is removed', null, 'thing.happened.v1 was removed or renamed: its readers would wait in vain'],
  ['a field is removed', without('count'), `${at}.count was removed or renamed: readers count on it`],
  ['an optional field is removed', without('note'), `${at}.note was removed or renamed: readers count on it`],
  [
    'a field is renamed',
    { ...without('note'), remark: z.string().optional() },
    `${at}.note was removed or renamed: readers count on it`,
  ],
  [
    'a required field becomes optional',
    { ...published, count: published.count.optional() },
    `${at}.count became optional: readers count on it`,
  ],
  [
    'an optional field becomes required',
    { ...published, note: z.string() },
    `${at}.note became required: events in the log may lack it`,
  ],
  [
    'a required field comes',
    { ...published, extra: z.string() },
    `${at}.extra is new and required: events in the log lack it; make it optional`,
  ],
  [
    'a type changes',
    { ...published, count: z.string() },
    `${at}.count changed its type from "integer" to "string"`,
  ],
  [
    'a type widens',
    { ...published, count: z.number().min(0) },
    `${at}.count changed its type from "integer" to "number"`,
  ],
  [
    'a bound narrows',
    { ...published, count: z.number().int().min(1) },
    `${at}.count changed its minimum from 0 to 1`,
  ],
  ['a format goes', { ...published, id: z.string() }, `${at}.id changed its format from "uuid" to nothing`],
  [
    'a closed list grows',
    { ...published, outcome: z.enum(['good', 'bad', 'odd']) },
    `${at}.outcome gained the value "odd": the list is closed, readers don't know it`,
  ],
  [
    'a closed list shrinks',
    { ...published, outcome: z.enum(['good']) },
    `${at}.outcome lost the value "bad"`,
  ],
  [
    'a closed list opens',
    { ...published, outcome: z.string() },
    `${at}.outcome takes any word now: readers count on the closed list`,
  ],
  [
    'an open word goes',
    { ...published, change: open('made') },
    `${at}.change lost the word "gone": its readers would wait in vain`,
  ],
  [
    'an open list closes',
    { ...published, change: z.enum(['made', 'gone']) },
    `${at}.change takes only certain words now: events in the log may hold others`,
  ],
  [
    'a field may become null',
    { ...published, count: published.count.nullable() },
    `${at}.count may be null now: readers don't expect that`,
  ],
  [
    'a field can become null no more',
    { ...published, error: z.object({ code: z.string() }) },
    `${at}.error can't be null any more: events in the log may be`,
  ],
  [
    'a field is removed behind a null',
    { ...published, error: z.object({}).nullable() },
    `${at}.error.code was removed or renamed: readers count on it`,
  ],
  [
    'a field of an item is removed',
    { ...published, steps: z.array(z.object({})) },
    `${at}.steps[].name was removed or renamed: readers count on it`,
  ],
  [
    'the values of a map change',
    { ...published, tags: z.record(z.string(), z.number()) },
    `${at}.tags.* changed its type from "string" to "number"`,
  ],
  [
    'a union grows',
    { ...published, either: z.union([z.string(), z.number(), z.boolean()]) },
    `${at}.either has 3 alternatives instead of 2: the union is closed`,
  ],
];

for (const [name, changed, line] of breaking) {
  test(`the check is red where ${name}`, () => {
    assert.deepEqual(breaksOf(changed), [line]);
  });
}

test('the schemas of today keep what was published', () => {
  const { isGreen, report } = events(root);
  assert.equal(isGreen, true, report);
});

test('the step is red where the tree tells less than was published, and where the promise is missing', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'stoa-events-'));
  try {
    assert.match(events(folder).report, /events\.json is missing/);
    const promised = structuredClone({ ...eventSchemas() });
    Object.assign(promised, { 'thing.happened.v1': { type: 'object' } });
    mkdirSync(path.dirname(path.join(folder, publishedPath)), { recursive: true });
    writeFileSync(path.join(folder, publishedPath), JSON.stringify(promised));
    const { isGreen, report } = events(folder);
    assert.equal(isGreen, false);
    assert.match(report, /thing\.happened\.v1 was removed/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
