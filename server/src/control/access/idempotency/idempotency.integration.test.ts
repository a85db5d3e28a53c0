import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { IdempotencyStore, KeepAnswer, RouteReply } from '#http';
import {
  AppError,
  asTenantId,
  createSealer,
  type ManualClock,
  manualClock,
  newUuid,
  type OperatorPrincipal,
  type Principal,
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
const operator: OperatorPrincipal = { kind: 'operator', keyId: '00operator00', role: 'operator' };

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

/** Keeps an answer as a creating POST does; the operator's door writes an audit entry, which stands for its change. */
async function change(
  keep: KeepAnswer,
  answer: RouteReply,
  principal: Principal = tenantPrincipal,
  name = 'change',
): Promise<RouteReply> {
  const { kept } =
    principal.kind === 'operator'
      ? await database.db.withOperator({ operator: principal.keyId }, name, (tx) => keep(tx, answer))
      : await database.db.withTenant({ tenantId: principal.tenantId }, (tx) => keep(tx, answer));
  return kept;
}

async function changesNamed(name: string): Promise<number> {
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'count', (tx) =>
    sql<{
      count: bigint;
    }>`select count(*) from platform.operator_audit_entries where reason = ${name}`.execute(tx),
  );
  return Number(rows[0]?.count);
}

function counted(answer: RouteReply | Error = reply, principal: Principal = tenantPrincipal) {
  const counter = { runs: 0 };
  return {
    counter,
    async run(keep: KeepAnswer): Promise<RouteReply> {
      counter.runs += 1;
      if (answer instanceof Error) throw answer;
      return change(keep, answer, principal);
    },
  };
}

/** A request whose claim is written and which runs until `finish`. */
async function begun(same: ReturnType<typeof scope>, name = 'change') {
  const { promise, resolve: finish } = Promise.withResolvers<RouteReply>();
  const { promise: hasBegun, resolve: begin } = Promise.withResolvers<void>();
  const running = store.once(same, async (keep) => {
    begin();
    return change(keep, await promise, same.principal, name);
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
    const { counter, run } = counted(reply, principal);
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

test('of a request and the one that took it over the change of one holds, and both answers are its', async () => {
  const [same, name] = [scope({ principal: operator }), newUuid()];
  const { running, finish } = await begun(same, name);
  clock.advance(60_000);
  await store.once(same, (keep) => change(keep, reply, operator, name));
  finish({ status: 201, body: 'late' });
  await assert.rejects(running, hasCode('idempotency_in_progress'));
  assert.equal(await changesNamed(name), 1);
  assert.deepEqual(await store.once(same, counted().run), reply);
});

test('a request that failed may be sent again at once, and its change is not there', async () => {
  const [same, name] = [scope({ principal: operator }), newUuid()];
  await assert.rejects(
    store.once(same, counted(new AppError('conflict', 'Not now.')).run),
    hasCode('conflict'),
  );
  await assert.rejects(
    store.once(same, async (keep) => {
      await database.db.withOperator({ operator: operator.keyId }, name, async (tx) => {
        await keep(tx, reply);
        throw new Error('before the commit');
      });
      return reply;
    }),
    /before the commit/,
  );
  assert.equal(await changesNamed(name), 0);
  await store.once(same, (keep) => change(keep, reply, operator, name));
  assert.equal(await changesNamed(name), 1);
});

test('what fails after its commit is not run again: the repeat gets the answer at once', async () => {
  const [same, name] = [scope({ principal: operator }), newUuid()];
  const first = store.once(same, async (keep) => {
    await change(keep, reply, operator, name);
    throw new AppError('database_unavailable', 'The connection was lost.');
  });
  await assert.rejects(first, hasCode('database_unavailable'));
  assert.deepEqual(await store.once(same, counted().run), reply);
  assert.equal(await changesNamed(name), 1);
});

test('a claim that is given back or taken over during a commit waits for it', async () => {
  const [same, name] = [scope({ principal: operator }), newUuid()];
  const { promise: isKept, resolve: saysKept } = Promise.withResolvers<void>();
  const { promise: mayCommit, resolve: commit } = Promise.withResolvers<void>();
  const running = store.once(same, async (keep) =>
    database.db.withOperator({ operator: operator.keyId }, name, async (tx) => {
      const { kept } = await keep(tx, reply);
      saysKept();
      await mayCommit;
      return kept;
    }),
  );
  await isKept;
  clock.advance(60_000);
  const repeat = store.once(same, counted(reply, operator).run);
  commit();
  assert.deepEqual(await running, reply);
  assert.deepEqual(await repeat, reply);
  assert.equal(await changesNamed(name), 1);
});

test('an answer that was not kept with its change is an error, and its claim is not given back', async () => {
  const same = scope();
  await assert.rejects(
    store.once(same, async () => reply),
    hasCode('internal_error'),
  );
  await assert.rejects(store.once(same, counted().run), hasCode('idempotency_in_progress'));
});

test('an answer belongs to one key, endpoint and tenant', async () => {
  const key = newUuid();
  const { counter, run } = counted();
  await store.once(scope({ key }), run);
  await store.once(scope({ key, endpointId: 'other.create' }), run);
  await store.once(scope({ key, principal: { ...tenantPrincipal, keyId: '00bbbbbbbbbb' } }), run);
  const neighbour = await newPrincipal(tenantPrincipal.keyId);
  const [ofNeighbour, ofOperator] = [counted(reply, neighbour), counted(reply, operator)];
  await store.once(scope({ key, principal: neighbour }), ofNeighbour.run);
  await store.once(scope({ key, principal: operator }), ofOperator.run);
  assert.deepEqual([counter.runs, ofNeighbour.counter.runs, ofOperator.counter.runs], [3, 1, 1]);
});

test('an answer is remembered for 24 hours, then its row goes', async () => {
  const { counter, run } = counted();
  const own = counted(reply, operator);
  const [same, ofOperator] = [scope(), scope({ principal: operator })];
  const runs = (): number[] => [counter.runs, own.counter.runs];
  await store.once(same, run);
  await store.once(ofOperator, own.run);
  clock.advance(24 * 60 * 60 * 1000 - 1);
  await store.once(same, run);
  await sweepIdempotencyKeys(deps);
  await store.once(ofOperator, own.run);
  assert.deepEqual(runs(), [1, 1]);
  clock.advance(1);
  await store.once(same, run);
  assert.deepEqual(runs(), [2, 1]);
  assert.ok((await sweepIdempotencyKeys(deps)) >= 1);
  await store.once(same, run);
  await store.once(ofOperator, own.run);
  assert.deepEqual(runs(), [2, 2]);
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
