import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSealer } from '#kernel';
import { missingKeys } from './signing-keys.ts';
import type { SigningKeyRow } from './signing-keys.sql.ts';

const sealer = createSealer(Buffer.alloc(32, 1));
const periodMs = 86_400_000;
const startMs = Date.UTC(2026, 0, 1);

function after(rows: readonly SigningKeyRow[], nowMs: number): readonly SigningKeyRow[] {
  return [...rows, ...missingKeys(rows, nowMs, periodMs, sealer)];
}

function signing(rows: readonly SigningKeyRow[], nowMs: number): readonly bigint[] {
  return rows
    .filter((row) => row.signing_from.getTime() <= nowMs && nowMs < row.signing_until.getTime())
    .map(({ generation }) => generation);
}

test('the first turn makes a key that signs at once and the next one', () => {
  const rows = after([], startMs);
  assert.deepEqual(
    rows.map(({ generation }) => generation),
    [1n, 2n],
  );
  assert.deepEqual(signing(rows, startMs), [1n]);
  assert.deepEqual(signing(rows, startMs + periodMs), [2n]);
});

test('at every moment of a month one key signs, was published a whole period before, and stays published one after', () => {
  let rows: readonly SigningKeyRow[] = [];
  const madeAt = new Map<bigint, number>();
  for (let nowMs = startMs; nowMs < startMs + 30 * periodMs; nowMs += 3_600_000) {
    rows = after(rows, nowMs);
    for (const { generation } of rows) if (!madeAt.has(generation)) madeAt.set(generation, nowMs);
    assert.equal(signing(rows, nowMs).length, 1);
  }
  for (const row of rows.slice(1)) {
    const leadMs = row.signing_from.getTime() - (madeAt.get(row.generation) ?? 0);
    // The task's own rhythm, an hour here, is all that is missing of a period.
    assert.ok(leadMs >= periodMs - 3_600_000, `${row.generation}: ${leadMs}`);
    assert.equal(row.published_until.getTime() - row.signing_until.getTime(), periodMs);
  }
});

test('after a long time without any process a key signs again, and no two ever sign at once', () => {
  const before = after([], startMs);
  const nowMs = startMs + 100 * periodMs;
  const rows = after(before, nowMs);
  assert.deepEqual(signing(rows, nowMs), [3n]);
  assert.deepEqual(after(rows, nowMs), rows);
});

test('a private key is sealed, and bound to its row', () => {
  const [one, other] = after([], startMs);
  assert.ok(one !== undefined && other !== undefined);
  assert.doesNotMatch(one.private_key, /PRIVATE/);
  assert.match(
    sealer.open(one.private_key, `platform:signing_keys:private_key:${one.key_id}`),
    /PRIVATE KEY/,
  );
  assert.throws(() => sealer.open(one.private_key, `platform:signing_keys:private_key:${other.key_id}`));
});
