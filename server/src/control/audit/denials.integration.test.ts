import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '#db';
import type { Denied } from '#http';
import { AppError, asTenantId, newRequestId, silentLogger, type TenantPrincipal, toTypeId } from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { createDenials } from './denials.ts';

let database: TestDatabase;

before(async () => {
  database = await openTestDatabase();
});

after(() => database.close());

type More = Partial<Pick<Denied, 'endpointId' | 'permission'>> &
  Partial<Pick<TenantPrincipal, 'tenantId' | 'memberId' | 'tokenId' | 'endUser'>>;

/** Denials over the real database, which can be away. */
async function arena() {
  const tenantId = asTenantId(await database.newTenant());
  const seen = { denials: 0, dropped: 0, failed: 0, refused: 0, isAway: false };
  const counter = (name: keyof Omit<typeof seen, 'isAway'>) => ({
    add(value: number) {
      seen[name] += value;
    },
  });
  const db: Pick<Database, 'withSystem'> = {
    withSystem: (job, fn, options) =>
      seen.isAway
        ? Promise.reject(new AppError('database_unavailable', 'planted'))
        : database.db.withSystem(job, fn, options),
  };
  const metrics = {
    denials: counter('denials'),
    droppedDenials: counter('dropped'),
    failedFlushes: counter('failed'),
    refusedDenials: counter('refused'),
  };
  const denials = createDenials({ db, logger: silentLogger, metrics });
  const deny = (keyId: string, clientAddress = '192.0.2.1', more: More = {}, to = denials): void => {
    const { endpointId = 'keys.list', permission = 'keys:read', ...principal } = more;
    const requestId = newRequestId();
    to.note({
      principal: {
        kind: 'tenant',
        tenantId,
        keyId,
        role: 'viewer',
        scopes: null,
        projectId: null,
        tags: {},
        standing: { refusal: null },
        ...principal,
      },
      endpointId,
      permission,
      context: {
        requestId,
        publicRequestId: toTypeId('req', requestId),
        clientRequestId: null,
        traceparent: null,
        clientAddress,
        userAgent: 'a\u0000b',
        ifMatch: null,
        idempotencyKey: null,
      },
    });
  };
  const written = async () => {
    const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
      sql<{
        actor_id: string;
        times: number;
        client_address: string;
        token_id: string;
        member_id: string;
        end_user: string;
      }>`
        select actor_id, times, client_address, token_id, member_id, end_user from tenant.audit_entries where outcome = 'denied' order by entry_id
      `.execute(tx),
    );
    return rows;
  };
  /** What another process of the same tenant writes. */
  const another = () => createDenials({ db, logger: silentLogger, metrics });
  return { seen, denials, deny, written, another, tenantId };
}

test('what cannot be written is kept, and counted on with what comes meanwhile', async () => {
  const { seen, denials, deny, written } = await arena();
  deny('a');
  deny('a');
  deny('b');
  seen.isAway = true;
  await denials.flush();
  deny('a', '192.0.2.2');
  await denials.flush();
  assert.deepEqual([seen.failed, (await written()).length], [2, 0]);
  seen.isAway = false;
  await Promise.all([denials.flush(), denials.flush()]);
  assert.deepEqual(
    (await written()).map(({ actor_id, times, client_address }) => [actor_id, times, client_address]),
    [
      ['a', 3, '192.0.2.2'],
      ['b', 1, '192.0.2.1'],
    ],
  );
});

test('what cannot be stored in a text is replaced, and the entry is written', async () => {
  const { seen, denials, deny, written } = await arena();
  const half = `${'t'.repeat(127)}\u{1F600}`;
  deny('nul', undefined, { tokenId: 'a\u0000b' });
  deny('lone', undefined, { tokenId: 'a\ud800b' });
  deny('cut', undefined, { tokenId: half });
  deny('good');
  await denials.flush();
  assert.deepEqual(
    (await written()).map(({ actor_id, token_id }) => [actor_id, token_id]),
    [
      ['nul', 'a\uFFFDb'],
      ['lone', 'a\uFFFDb'],
      ['cut', `${'t'.repeat(127)}\uFFFD`],
      ['good', null],
    ],
  );
  assert.deepEqual([seen.failed, seen.refused], [0, 0]);
});

test('an entry that the database refuses is dropped alone, and holds nothing up', async () => {
  const { seen, denials, deny, written } = await arena();
  const refused = { endpointId: '', permission: null } as const;
  for (let index = 0; index < 20; index++) {
    if (index % 7 === 0) for (let times = 0; times < 3; times++) deny(`bad-${index}`, undefined, refused);
    deny(`key-${index}`);
  }
  await denials.flush();
  assert.deepEqual(
    (await written()).map(({ actor_id }) => actor_id),
    Array.from({ length: 20 }, (_, index) => `key-${index}`),
  );
  assert.deepEqual([seen.failed, seen.refused], [0, 9]);
  await denials.flush();
  assert.equal((await written()).length, 20);
});

test('a tenant takes no more than its places, what is over is counted, and others keep theirs', async () => {
  const { seen, denials, deny, written } = await arena();
  const others = Array.from({ length: 20 }, (_, index) =>
    asTenantId(`00000000-0000-7000-8000-0000000000${String(index).padStart(2, '0')}`),
  );
  for (let turn = 0; turn < 2; turn++) {
    for (let index = 0; index < 550; index++) deny(`key-${index}`);
  }
  assert.deepEqual([seen.denials, seen.dropped], [1_100, 100]);
  seen.isAway = true;
  await denials.flush();
  deny('one more');
  assert.equal(seen.dropped, 101);
  seen.isAway = false;
  for (const tenantId of others) {
    for (let index = 0; index < 500; index++) deny(`key-${index}`, undefined, { tenantId });
  }
  assert.equal(seen.dropped, 601, 'ten thousand in all');
  await denials.lifecycle.stop();
  const rows = await written();
  assert.equal(rows.length, 500);
  assert.ok(rows.every(({ times }) => times === 2));
});

/** As when the minute turns: what was claimed is nobody's any more. */
async function turnMinute(): Promise<void> {
  await database.db.withSystem('audit', (tx) => sql`delete from platform.denied_minutes`.execute(tx));
}

/** So that no minute turns by itself between two writings. */
async function awayFromTurn(): Promise<void> {
  const leftMs = 60_000 - (Date.now() % 60_000);
  if (leftMs < 5_000) await new Promise((resolve) => setTimeout(resolve, leftMs + 100));
}

test('several processes write one entry a minute together, and no count is lost', async () => {
  const { denials, deny, written, another } = await arena();
  const [second, third] = [another(), another()];
  const everywhere = [denials, second, third];
  const timesOf = async (): Promise<number[]> => (await written()).map(({ times }) => times);
  await awayFromTurn();
  await turnMinute();
  for (const [index, process] of everywhere.entries())
    for (let times = 0; times <= index; times++) deny('a', undefined, {}, process);
  deny('b', undefined, {}, third);
  await Promise.all(everywhere.map((process) => process.flush()));
  const first = await written();
  assert.deepEqual(
    first.map(({ actor_id }) => actor_id).sort((one, other) => one.localeCompare(other)),
    ['a', 'b'],
  );
  deny('a', undefined, {}, second);
  for (const process of everywhere) await process.flush();
  assert.equal((await written()).length, 2, 'the minute has its entry');
  for (let minute = 0; minute < 3; minute++) {
    await turnMinute();
    for (const process of everywhere) await process.flush();
  }
  const sum = (await written())
    .filter(({ actor_id }) => actor_id === 'a')
    .reduce((all, { times }) => all + times, 0);
  assert.deepEqual([sum, (await timesOf()).length], [7, 4]);
});

test('a process that ends writes what it holds, whoever has written in this minute', async () => {
  const { denials, deny, written, another } = await arena();
  const second = another();
  await awayFromTurn();
  await turnMinute();
  deny('a');
  await denials.flush();
  deny('a', undefined, {}, second);
  await second.lifecycle.stop();
  assert.deepEqual(
    (await written()).map(({ times }) => times),
    [1, 1],
  );
});

test('members, end users and tokens of one issuer are an entry each', async () => {
  const { denials, deny, written } = await arena();
  const ada = '00000000-0000-7000-8000-000000000001';
  const eve = '00000000-0000-7000-8000-000000000002';
  deny('isr_x', undefined, { memberId: ada, tokenId: 't1' });
  deny('isr_x', undefined, { memberId: eve, tokenId: 't2' });
  deny('isr_x', undefined, { memberId: ada, tokenId: 't3' });
  deny('isr_x', undefined, { endUser: 'c-1', tokenId: 't4' });
  deny('isr_x', undefined, { endUser: 'c-2', tokenId: 't5' });
  deny('isr_x', undefined, { endUser: 'c-1', tokenId: 't6' });
  deny('isr_x', undefined, { tokenId: 't7' });
  deny('isr_x', undefined, { tokenId: 't8' });
  deny('key', undefined, { tokenId: 't9' });
  deny('key', undefined, { tokenId: 't10' });
  await denials.flush();
  assert.deepEqual(
    (await written()).map((row) => [row.member_id, row.token_id, row.end_user, row.times]),
    [
      [toTypeId('mem', ada), 't3', null, 2],
      [toTypeId('mem', eve), 't2', null, 1],
      [null, 't6', 'c-1', 2],
      [null, 't5', 'c-2', 1],
      [null, 't7', null, 1],
      [null, 't8', null, 1],
      [null, 't10', null, 2],
    ],
  );
});
