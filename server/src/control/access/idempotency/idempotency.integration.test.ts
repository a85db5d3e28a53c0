import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { IdempotencyStore, RouteReply } from '#http';
import {
  AppError,
  asTenantId,
  createSealer,
  type ManualClock,
  manualClock,
  newUuid,
  type OperatorPrincipal,
  silentLogger,
  type TenantPrincipal,
} from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { createIdempotencyStore, type IdempotencyDeps, sweepIdempotencyKeys } from './idempotency.ts';

let database: TestDatabase;
let clock: ManualClock;
let deps: IdempotencyDeps;
let store: IdempotencyStore;
let tenantPrincipal: TenantPrincipal;
const operator: OperatorPrincipal = { kind: 'operator', keyId: '00operator00' };

async function newPrincipal(keyId: string): Promise<TenantPrincipal> {
  return {
    kind: 'tenant',
    tenantId: asTenantId(await database.newTenant()),
    keyId,
    role: 'admin',
    scopes: null,
    projectId: null,
    tags: {},
    standing: { refusal: null },
  };
}

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  deps = { db: database.db, clock, logger: silentLogger, sealer: createSealer(new Uint8Array(32).fill(7)) };
  store = createIdempotencyStore(deps);
  tenantPrincipal = await newPrincipal('00aaaaaaaaaa');
});

after(async () => {
  await database.close();
});

const reply: RouteReply = {
  status: 201,
  body: { id: 'x', secret: 'stoa_sk_plaintext', list: [1, null, 'é'] },
  headers: { location: '/x' },
};

function scope(
  changes: Partial<Parameters<IdempotencyStore['once']>[0]> = {},
): Parameters<IdempotencyStore['once']>[0] {
  return { principal: tenantPrincipal, endpointId: 'keys.create', key: newUuid(), bodyHash: 'a', ...changes };
}

function counted(answer: RouteReply | Error = reply) {
  const counter = { runs: 0 };
  return {
    counter,
    async run(): Promise<RouteReply> {
      counter.runs += 1;
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
}

/** A request whose claim is written and which runs until `finish`. */
async function begun(same: ReturnType<typeof scope>) {
  const { promise, resolve: finish } = Promise.withResolvers<RouteReply>();
  const { promise: hasBegun, resolve: begin } = Promise.withResolvers<void>();
  const running = store.once(same, async () => {
    begin();
    return promise;
  });
  await Promise.race([hasBegun, running]);
  return { running, finish };
}

const hasCode =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof AppError && error.code === code;

test('a repeat gets the first answer, whole, and runs nothing; for a tenant as for the operator', async () => {
  for (const principal of [tenantPrincipal, operator]) {
    const { counter, run } = counted();
    const same = scope({ principal });
    assert.deepEqual(await store.once(same, run), reply);
    assert.deepEqual(await store.once(same, run), reply);
    assert.deepEqual(await createIdempotencyStore(deps).once(same, run), reply);
    assert.equal(counter.runs, 1);
  }
});

test('the same key with another body is a conflict, also while the first runs', async () => {
  const { run } = counted();
  const first = scope();
  const { running, finish } = await begun(first);
  await assert.rejects(store.once({ ...first, bodyHash: 'b' }, run), hasCode('idempotency_conflict'));
  finish(reply);
  await running;
  await assert.rejects(store.once({ ...first, bodyHash: 'b' }, run), hasCode('idempotency_conflict'));
});

test('of twenty that come together one runs, whichever process they come to', async () => {
  const { counter, run } = counted();
  const same = scope();
  const stores = [store, createIdempotencyStore(deps)];
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, async (_, index) => stores[index % 2]?.once(same, run)),
  );
  assert.equal(counter.runs, 1);
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') assert.deepEqual(outcome.value, reply);
    else assert.ok(hasCode('idempotency_in_progress')(outcome.reason));
  }
});

test('a claim without an answer is taken over after 60 seconds and not before', async () => {
  const same = scope();
  // As if its process had died: it never ends.
  await begun(same);
  const { counter, run } = counted();
  clock.advance(59_999);
  await assert.rejects(store.once({ ...same, bodyHash: 'other' }, run), hasCode('idempotency_conflict'));
  await assert.rejects(store.once(same, run), hasCode('idempotency_in_progress'));
  clock.advance(1);
  assert.deepEqual(await store.once(same, run), reply);
  assert.equal(counter.runs, 1);
});

test('who was taken over does not overwrite the answer', async () => {
  const same = scope();
  const { running, finish } = await begun(same);
  clock.advance(60_000);
  await store.once(same, async () => reply);
  finish({ status: 201, body: 'late' });
  assert.deepEqual((await running).body, 'late');
  assert.deepEqual(await store.once(same, counted().run), reply);
});

test('a request that failed may be sent again at once; a refusal that was answered is remembered', async () => {
  const same = scope();
  await assert.rejects(
    store.once(same, counted(new AppError('conflict', 'Not now.')).run),
    hasCode('conflict'),
  );
  assert.equal((await store.once(same, async () => ({ status: 503 }))).status, 503);
  const { counter, run } = counted({ status: 404, body: { error: {} } });
  assert.equal((await store.once(same, run)).status, 404);
  assert.equal((await store.once(same, run)).status, 404);
  assert.equal(counter.runs, 1);
});

test('an answer belongs to one key, endpoint and tenant', async () => {
  const key = newUuid();
  const { counter, run } = counted();
  await store.once(scope({ key }), run);
  await store.once(scope({ key, endpointId: 'other.create' }), run);
  await store.once(scope({ key, principal: { ...tenantPrincipal, keyId: '00bbbbbbbbbb' } }), run);
  await store.once(scope({ key, principal: await newPrincipal(tenantPrincipal.keyId) }), run);
  await store.once(scope({ key, principal: operator }), run);
  assert.equal(counter.runs, 5);
});

test('an answer is remembered for 24 hours, then its row goes', async () => {
  const { counter, run } = counted();
  const [same, ofOperator] = [scope(), scope({ principal: operator })];
  await store.once(same, run);
  await store.once(ofOperator, run);
  clock.advance(24 * 60 * 60 * 1000 - 1);
  await store.once(same, run);
  assert.equal(counter.runs, 2);
  await sweepIdempotencyKeys(deps);
  await store.once(ofOperator, run);
  assert.equal(counter.runs, 2);
  clock.advance(1);
  await store.once(same, run);
  assert.equal(counter.runs, 3);
  assert.ok((await sweepIdempotencyKeys(deps)) >= 1);
  await store.once(same, run);
  assert.equal(counter.runs, 3);
  await store.once(ofOperator, run);
  assert.equal(counter.runs, 4);
});

test('what is stored shows nothing of the answer, and opens at its own place alone', async () => {
  const [one, two] = [scope(), scope()];
  await store.once(one, counted().run);
  await store.once(two, counted({ status: 201, body: 'of two' }).run);
  const { tenantId } = tenantPrincipal;
  const stored = await database.db.withTenant({ tenantId }, (tx) =>
    sql<{ idempotency_key: string; answer: string }>`
      select idempotency_key, answer from tenant.idempotency_keys where idempotency_key in (${one.key}, ${two.key})
    `.execute(tx),
  );
  assert.equal(stored.rows.length, 2);
  assert.ok(stored.rows.every(({ answer }) => !answer.includes('plaintext') && answer.startsWith('v1.')));
  const ofOne = stored.rows.find(({ idempotency_key }) => idempotency_key === one.key)?.answer ?? '';
  await database.db.withTenant({ tenantId }, (tx) =>
    sql`update tenant.idempotency_keys set answer = ${ofOne} where idempotency_key = ${two.key}`.execute(tx),
  );
  await assert.rejects(store.once(two, counted().run), hasCode('internal_error'));
});

test('an Idempotency-Key of no or too many characters is refused', async () => {
  for (const key of ['', 'x'.repeat(256)])
    await assert.rejects(store.once(scope({ key }), counted().run), hasCode('invalid_request'));
});
