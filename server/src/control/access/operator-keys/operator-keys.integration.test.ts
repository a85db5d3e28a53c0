/** The operator's own keys: how long they may last, and how they get another secret. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createdOperatorKey, operatorKey, operatorKeyPattern } from '@stoa/contracts';
import { sql } from 'kysely';
import type { z } from 'zod';
import { type ManualClock, manualClock } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';

let database: TestDatabase;
let plane: ControlPlane;
let clock: ManualClock;
const masterKey = new Uint8Array(32).fill(7);

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  const access = { maximumAgeMs: Number.POSITIVE_INFINITY };
  plane = await openControlPlane(database.db, { clock, masterKey, access });
});

after(async () => {
  await plane.close();
  await database.close();
});

const path = '/control/v1/operator-keys';
const hourMs = 3_600_000;
const at = (ms: number): string => new Date(clock.now() + ms).toISOString();

type MadeKey = z.output<typeof createdOperatorKey>;

function made(answer: Answer): MadeKey {
  assert.ok(answer.status < 300, answer.text);
  return createdOperatorKey.strict().parse(answer.body);
}

async function newKey(body: object = {}): Promise<MadeKey> {
  return made(await plane.admin('POST', path, { body: { name: 'k', ...body } }));
}

async function rotate(key: string, id: string, body: object = {}, headers = {}): Promise<Answer> {
  return plane.admin('POST', `${path}/${id}/rotate`, { key, body, headers });
}

async function use(key: string, where = plane): Promise<string> {
  return outcome(await where.admin('GET', path, { key }));
}

function outcome(answer: Answer): string {
  return answer.status < 400 ? String(answer.status) : `${answer.status} ${errorIn(answer).code}`;
}

test('a rotated operator key keeps its id and role, and both secrets work until the overlap ends', async () => {
  const first = await newKey({ expires_at: at(100 * hourMs) });
  const rotated = await rotate(first.key, first.id, { overlap_seconds: 3600 });
  const second = made(rotated);
  assert.match(second.key, operatorKeyPattern);
  assert.deepEqual(
    [second.id, second.role, second.expires_at, second.version, rotated.headers['etag']],
    [first.id, first.role, first.expires_at, 2, '"2"'],
  );
  assert.deepEqual([second.rotated_at, second.previous_secret_expires_at], [at(0), at(hourMs)]);
  clock.advance(hourMs - 1);
  assert.deepEqual([await use(first.key), await use(second.key)], ['200', '200']);
  clock.advance(1);
  assert.deepEqual([await use(first.key), await use(second.key)], ['401 key_expired', '200']);
  const read = operatorKey.parse((await plane.admin('GET', `${path}/${first.id}`)).body);
  assert.equal(read.previous_secret_expires_at, null);
  const third = made(await rotate(second.key, first.id, { overlap_seconds: 0 }));
  assert.deepEqual([await use(second.key), await use(third.key)], ['401 key_expired', '200']);
  assert.equal(await use(first.key), '401 invalid_api_key', 'at most two secrets are known');
});

test('an operator key that ends makes none, and is shown none, that lasts longer', async () => {
  const own = await newKey({ expires_at: at(hourMs) });
  const endless = await newKey();
  const make = async (expiresAt: string | null): Promise<string> =>
    outcome(await plane.admin('POST', path, { key: own.key, body: { name: 'k', expires_at: expiresAt } }));
  const denied = '403 permission_denied';
  assert.deepEqual(
    [await make(null), await make(at(hourMs + 1)), await make(at(hourMs))],
    [denied, denied, '201'],
  );
  assert.equal(outcome(await rotate(own.key, endless.id)), denied);
  assert.equal(await use(endless.key), '200', 'a refused rotation changes nothing');
  assert.equal(outcome(await rotate(own.key, own.id, { expires_at: at(2 * hourMs) })), denied);
  assert.equal(outcome(await rotate(own.key, own.id, { expires_at: null })), denied);
  assert.equal(outcome(await rotate(own.key, own.id)), '200');
  assert.equal(outcome(await rotate(endless.key, own.id, { expires_at: null })), '200');
});

test('a key that is revoked, expired without a new end, changed meanwhile or nobody’s is not rotated', async () => {
  const [admin, target] = [await newKey(), await newKey({ expires_at: at(hourMs) })];
  const stale = await rotate(admin.key, target.id, {}, { 'if-match': '"7"' });
  assert.equal(outcome(stale), '412 version_conflict');
  assert.equal(outcome(await rotate(admin.key, target.id, { expires_at: at(0) })), '400 invalid_request');
  clock.advance(hourMs);
  assert.equal(outcome(await rotate(admin.key, target.id)), '409 conflict');
  const back = made(await rotate(admin.key, target.id, { expires_at: at(hourMs), overlap_seconds: 3600 }));
  assert.deepEqual([await use(target.key), await use(back.key)], ['401 key_expired', '200']);
  await plane.admin('DELETE', `${path}/${target.id}`);
  assert.equal(outcome(await rotate(admin.key, target.id)), '409 conflict');
  assert.equal(outcome(await rotate(admin.key, '00zzzzzzzzzz')), '404 not_found');
  const readonly = await newKey({ role: 'operator-readonly' });
  assert.equal(outcome(await rotate(readonly.key, readonly.id)), '403 permission_denied');
});

test('a rotation of an operator key is known in every process within a second, and its secrets are nowhere in the audit', async () => {
  const real = await openControlPlane(database.db, { masterKey });
  const other = await openControlPlane(database.db, { masterKey });
  try {
    await other.access.lifecycle.start();
    const first = await newKey();
    assert.equal(await use(first.key, other), '200');
    const body = { overlap_seconds: 0 };
    const second = made(await real.admin('POST', `${path}/${first.id}/rotate`, { key: first.key, body }));
    const untilMs = performance.now() + 1000;
    while ((await use(first.key, other)) === '200' && performance.now() < untilMs)
      await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual([await use(first.key, other), await use(second.key, other)], ['401 key_expired', '200']);
    const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
      sql<{ action: string; row: string }>`
        select action, to_jsonb(e)::text as row from platform.operator_audit_entries e where resource_id = ${first.id}
      `.execute(tx),
    );
    assert.deepEqual(
      rows.map(({ action }) => action),
      ['operator_keys.create', 'operator_keys.rotate'],
    );
    for (const { row } of rows)
      for (const { key } of [first, second]) assert.ok(!row.includes(key.slice(21, 40)));
  } finally {
    await other.close();
    await real.close();
  }
});
