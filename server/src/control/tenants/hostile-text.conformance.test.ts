/**
 * Text and bodies that attack software, through the endpoint that creates tenants. Legal text is stored and comes back
 * byte for byte, whatever it looks like; the rest is refused with its code; nothing is a fault of ours.
 */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { tenant } from '@stoa/contracts';
import { z } from 'zod';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';

const folder = `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security`;
const path = '/control/v1/tenants';
let database: TestDatabase;
let plane: ControlPlane;

before(async () => {
  database = await openTestDatabase();
  plane = await openControlPlane(database.db);
});

after(async () => {
  await plane.close();
  await database.close();
});

async function vectors<S extends z.ZodType>(name: string, schema: S): Promise<z.output<S>> {
  return schema.parse(JSON.parse(await readFile(`${folder}/${name}`, 'utf8')));
}

async function requireStoredOrRefused(name: string): Promise<void> {
  const answer = await plane.admin('POST', path, { body: { name } });
  const isLegal =
    name !== '' && Array.from(name).length <= 200 && name.isWellFormed() && !name.includes('\u0000');
  if (!isLegal) {
    assert.equal(answer.status, 400);
    assert.match(errorIn(answer).code, /^invalid_(request|text)$/);
    return;
  }
  assert.equal(answer.status, 201, `${JSON.stringify(name)}: ${answer.text}`);
  const { id } = tenant.parse(answer.body);
  const read = tenant.parse((await plane.admin('GET', `${path}/${id}`)).body);
  assert.deepEqual(Buffer.from(read.name), Buffer.from(name));
}

test('every naughty string is a name that comes back byte for byte, or is refused with its code', async () => {
  const strings = await vectors('blns.json', z.array(z.string()).min(1));
  for (const name of strings) await requireStoredOrRefused(name);
  console.log(`conformance: blns through tenants ${strings.length} cases`);
});

test('every injection payload is a name like any other', async () => {
  const classes = await vectors('injection-payloads.json', z.record(z.string(), z.array(z.string()).min(1)));
  const payloads = Object.values(classes).flat();
  for (const name of payloads) await requireStoredOrRefused(name);
  console.log(`conformance: injection payloads through tenants ${payloads.length} cases`);
});

/** What a body that is JSON but no tenant may be answered. */
function requireCleanRefusal(answer: Answer, name: string): void {
  assert.equal(answer.status, 400, `${name}: ${answer.text}`);
  assert.match(
    errorIn(answer).code,
    /^(invalid_json|invalid_encoding|json_too_deep|invalid_request|invalid_text)$/,
  );
}

test('every body that is no JSON, or odd JSON, is refused cleanly', async () => {
  const cases = await vectors(
    'json-parsing.json',
    z
      .array(
        z.object({ name: z.string(), expect: z.enum(['accept', 'reject', 'either']), base64: z.string() }),
      )
      .min(1),
  );
  for (const { name, expect, base64 } of cases) {
    const bytes = Buffer.from(base64, 'base64');
    const answer = await plane.admin('POST', path, { rawBody: bytes });
    requireCleanRefusal(answer, name);
    const { code } = errorIn(answer);
    if (expect === 'accept') assert.equal(code, 'invalid_request', name);
    if (expect === 'reject') assert.notEqual(code, 'invalid_request', name);
  }
  console.log(`conformance: JSON bodies through tenants ${cases.length} cases`);
});
