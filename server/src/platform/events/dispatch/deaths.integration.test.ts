import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { newUuid } from '#kernel';
import type { EncodedEvent } from '../index.ts';
import { insertReplay } from './replay.sql.ts';
import { anEvent, type Arena, openArena, until } from './testing/arena.ts';

const skip = process.env['STOA_TEST_SERVICES'] !== '1' && 'needs PostgreSQL (--services)';
const file = fileURLToPath(new URL('./testing/killed-process.ts', import.meta.url));

const named = (tenantId: string, what: string, count: number, type = 'test.happened.v1'): EncodedEvent[] =>
  Array.from({ length: count }, (_, index) => anEvent(tenantId, { key: `${what} ${index}`, type }));

const idsOf = (events: readonly { readonly eventId: string }[]): string[] =>
  events.map(({ eventId }) => eventId).toSorted();

describe('events that kill their process', { skip }, () => {
  let arena: Arena;
  before(async () => {
    arena = await openArena('postgres');
  });
  after(() => arena.close());

  function start(number: number): { readonly child: ChildProcess; readonly ended: Promise<unknown> } {
    const child = spawn(process.execPath, [file, JSON.stringify(arena.urls), String(number)], {
      stdio: 'inherit',
    });
    return { child, ended: once(child, 'exit') };
  }

  const storedOf = async (tenantId: string, ...consumers: readonly string[]) => {
    const rows = await Promise.all(consumers.map((consumer) => arena.stored(consumer)));
    return rows.flat().filter((row) => row.tenant_id === tenantId);
  };

  /** Ids of what had its effect, each as often as it had. */
  const effectsOf = async (tenantId: string): Promise<string[]> => {
    const singly = await arena.effects('killed');
    const batched = await arena.db.withTenant({ tenantId }, async (tx) => {
      const { rows } = await sql<{ event_id: string }>`
        select event_id from tenant.event_inbox where consumer = 'killed.batches.effect'`.execute(tx);
      return rows.map((row) => row.event_id);
    });
    return [...singly.flatMap((row) => (row.tenant_id === tenantId ? [row.event_id] : [])), ...batched];
  };

  /** Starts process after process, as a supervisor would, until it is done; answers how many died. */
  async function untilDone(
    isDone: () => Promise<boolean>,
    { first, limit }: { readonly first: number; readonly limit: number },
  ): Promise<number> {
    for (let deaths = 0; ; deaths++) {
      assert.ok(deaths <= limit, 'it goes on and on');
      const { child, ended } = start(deaths + first);
      let hasEnded = false;
      const noted = ended.then(() => {
        hasEnded = true;
      });
      try {
        await until(async () => hasEnded || (await isDone()), Boolean, 'a death or the end', 60_000);
      } catch (error) {
        child.kill('SIGKILL');
        throw error;
      }
      if (hasEnded) continue;
      child.kill('SIGKILL');
      await noted;
      return deaths;
    }
  }

  test('a killer ends as a dead letter; hundreds that were under way beside it each have their effect once, and none is blamed', async () => {
    const tenantId = await arena.newTenant();
    const shaky = named(tenantId, 'shaky', 60);
    await arena.tell(...shaky);
    const zeroth = start(0);
    await until(
      () => storedOf(tenantId, 'killed'),
      (rows) => rows.length === shaky.length,
      'every shaky event in the store',
    );
    zeroth.child.kill('SIGKILL');
    await zeroth.ended;
    const single = named(tenantId, 'bystander', 300);
    const batched = named(tenantId, 'bystander', 400, 'test.batched.v1');
    const killers = [
      ...named(tenantId, 'killer', 2),
      ...named(tenantId, 'killer of batches', 1, 'test.batched.v1'),
    ];
    const told = [...single, ...batched];
    for (const [index, killer] of killers.entries()) told.splice(200 * index, 0, killer);
    await arena.tell(...told);
    const innocents = [...shaky, ...single, ...batched];
    const stored = () => storedOf(tenantId, 'killed', 'killed.batches');
    const deaths = await untilDone(
      async () => {
        const effects = await effectsOf(tenantId);
        const rows = await stored();
        const isSettled = rows.every(({ state }) => state === 'dead');
        return isSettled && effects.length + rows.length >= innocents.length + killers.length;
      },
      { first: 1, limit: 12 },
    );
    const dead = await stored();
    assert.deepEqual(
      new Map(dead.map((row) => [row.event_id, [row.error_code, row.attempts]])),
      new Map(killers.map(({ eventId }) => [eventId, ['process_died', 2]])),
    );
    assert.deepEqual((await effectsOf(tenantId)).toSorted(), idsOf(innocents));
    assert.ok(deaths >= 3 * 2, `${deaths} deaths`);
  });

  test('an event that kills the process of a replay ends as a dead letter, and the replay goes on behind it', async () => {
    const tenantId = await arena.newTenant();
    const told = ['before', 'relapse', 'behind'].map((key) => anEvent(tenantId, { key }));
    const [, relapse] = told;
    await arena.tell(...told);
    const isHandled = async () => (await effectsOf(tenantId)).length === told.length;
    assert.equal(await untilDone(isHandled, { first: 50, limit: 0 }), 0);
    const replayId = newUuid();
    await arena.db.withOperator({ operator: 'system:test' }, 'a replay for a test', (tx) =>
      insertReplay(tx, { tenantId, replayId, consumer: 'killed', from: new Date(0) }),
    );
    const deaths = await untilDone(
      async () => {
        const rows = await storedOf(tenantId, 'killed');
        return (await effectsOf(tenantId)).length === 5 && rows.length === 1 && rows[0]?.state === 'dead';
      },
      { first: 100, limit: 5 },
    );
    const [letter] = await storedOf(tenantId, 'killed');
    assert.deepEqual([letter?.event_id, letter?.error_code], [relapse?.eventId, 'process_died']);
    assert.equal(deaths, 3);
  });
});
