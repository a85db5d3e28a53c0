import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import { manualClock, silentLogger } from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { createTimers, LeaseLost, type Timers, type TimerTask } from './index.ts';

const progressId = '01900000-0000-7000-8000-000000000000';

let database: TestDatabase;
before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());

function timersOf(tasks: readonly TimerTask[], leaseMs = 60_000): Timers {
  return createTimers({ db: database.db, clock: manualClock(), logger: silentLogger }, tasks, { leaseMs });
}

async function expireLease(name: string): Promise<void> {
  await database.db.withSystem('leases', (tx) =>
    sql`update platform.leases set expires_at = clock_timestamp() - interval '1 second' where name = ${name}`.execute(
      tx,
    ),
  );
}

test('only one process runs a timer while its lease lasts', async () => {
  const ran: string[] = [];
  const task = (who: string): TimerTask => ({
    name: 'one-holder',
    everyMs: 60_000,
    run: async () => {
      ran.push(who);
    },
  });
  const first = timersOf([task('first')]);
  const second = timersOf([task('second')]);
  assert.equal(await first.runNow('one-holder'), 'done');
  assert.equal(await second.runNow('one-holder'), 'held_elsewhere');
  assert.equal(await first.runNow('one-holder'), 'done');
  assert.deepEqual(ran, ['first', 'first']);
  await first.stop();
  await second.stop();
});

test('a holder that vanished is replaced after its lease, with a higher fence', async () => {
  const fences: bigint[] = [];
  const task: TimerTask = {
    name: 'vanished',
    everyMs: 60_000,
    run: async ({ fence }) => {
      fences.push(fence);
    },
  };
  await timersOf([task]).runNow('vanished');
  await expireLease('vanished');
  const second = timersOf([task]);
  assert.equal(await second.runNow('vanished'), 'done');
  assert.equal(await second.runNow('vanished'), 'done');
  assert.deepEqual(fences, [1n, 2n, 2n]);
  await second.stop();
});

test('a leader that lives keeps its lease beyond the lease’s time, and one that stands still loses it', async () => {
  const task: TimerTask = { name: 'renewed', everyMs: 3_600_000, run: async () => undefined };
  const leaseMs = 600;
  const living = timersOf([task], leaseMs);
  const other = timersOf([task], leaseMs);
  await living.start();
  assert.equal(await living.runNow('renewed'), 'done');
  const endsAtMs = performance.now() + 3 * leaseMs;
  while (performance.now() < endsAtMs) {
    assert.equal(await other.runNow('renewed'), 'held_elsewhere');
    await pause(leaseMs / 6);
  }
  await living.stop();
  const standing = timersOf([task], leaseMs);
  assert.equal(await standing.runNow('renewed'), 'done');
  const startedAtMs = performance.now();
  while ((await other.runNow('renewed')) === 'held_elsewhere') await pause(20);
  assert.ok(performance.now() - startedAtMs > leaseMs / 2, 'not before its time');
  await standing.stop();
  await other.stop();
});

test('the late write of a leader that stood still is refused, and its successor’s stands', async () => {
  const paused = Promise.withResolvers<void>();
  const resumed = Promise.withResolvers<void>();
  const writes: bigint[] = [];
  const late: unknown[] = [];
  const write = async ({ withSystem, fence }: Parameters<TimerTask['run']>[0]): Promise<void> => {
    await withSystem('jobs', async (tx) => {
      await sql`
        insert into jobs.progress (job_id, attempt, value, note) values (${progressId}::uuid, 0, 0, ${String(fence)})
        on conflict (job_id) do update set note = excluded.note
      `.execute(tx);
    });
    writes.push(fence);
  };
  const first = timersOf([
    {
      name: 'leader',
      everyMs: 60_000,
      async run(context) {
        await write(context);
        paused.resolve();
        await resumed.promise;
        await write(context).catch((error: unknown) => late.push(error));
      },
    },
  ]);
  const second = timersOf([{ name: 'leader', everyMs: 60_000, run: write }]);
  const run = first.runNow('leader');
  await paused.promise;
  await expireLease('leader');
  assert.equal(await second.runNow('leader'), 'done');
  resumed.resolve();
  assert.equal(await run, 'done');
  assert.deepEqual(writes, [1n, 2n]);
  assert.ok(late[0] instanceof LeaseLost);
  const note = await database.db.withSystem('jobs', async (tx) => {
    const { rows } = await sql<{ note: string }>`select note from jobs.progress`.execute(tx);
    return rows[0]?.note;
  });
  assert.equal(note, '2');
  await first.stop();
  await second.stop();
});

test('stopping gives the lease back, so another process goes on at once', async () => {
  const task: TimerTask = { name: 'handed-over', everyMs: 60_000, run: async () => undefined };
  const first = timersOf([task]);
  await first.runNow('handed-over');
  await first.stop();
  const second = timersOf([task]);
  assert.equal(await second.runNow('handed-over'), 'done');
  await second.stop();
});

test('runs of one timer never overlap in a process', async () => {
  let running = 0;
  let most = 0;
  let runs = 0;
  const gate = Promise.withResolvers<void>();
  const timers = timersOf([
    {
      name: 'overlap',
      everyMs: 60_000,
      run: async () => {
        running += 1;
        runs += 1;
        most = Math.max(most, running);
        await gate.promise;
        running -= 1;
      },
    },
  ]);
  const both = Promise.all([timers.runNow('overlap'), timers.runNow('overlap')]);
  gate.resolve();
  assert.deepEqual(await both, ['done', 'done']);
  assert.equal(most, 1);
  assert.equal(runs, 1);
  await timers.stop();
});

test('a task that throws is counted and runs again', async () => {
  let calls = 0;
  const timers = timersOf([
    {
      name: 'failing',
      everyMs: 60_000,
      run: async () => {
        calls += 1;
        if (calls === 1) throw new Error('planted');
      },
    },
  ]);
  assert.equal(await timers.runNow('failing'), 'failed');
  assert.equal(await timers.runNow('failing'), 'done');
  assert.deepEqual(timers.state()[0]?.counts, { done: 1, failed: 1, held_elsewhere: 0 });
  await timers.stop();
});

test('a started timer runs by itself, and not after stop', async () => {
  const second = Promise.withResolvers<void>();
  let calls = 0;
  const timers = createTimers(
    { db: database.db, clock: manualClock(), logger: silentLogger, random: () => 0 },
    [
      {
        name: 'by-itself',
        everyMs: 1000,
        run: async () => {
          calls += 1;
          if (calls === 2) second.resolve();
        },
      },
    ],
  );
  await timers.start();
  const alive = setInterval(() => undefined, 1000);
  await second.promise;
  clearInterval(alive);
  await timers.stop();
  const atStop = calls;
  assert.equal(
    await timers.runNow('by-itself').then(() => calls - atStop),
    1,
    'only an explicit call still runs it',
  );
});

test('stop tells a running task by its signal and waits for it', async () => {
  const started = Promise.withResolvers<void>();
  let sawAbort = false;
  const timers = timersOf([
    {
      name: 'told',
      everyMs: 60_000,
      run: ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            sawAbort = true;
            resolve();
          });
          started.resolve();
        }),
    },
  ]);
  const run = timers.runNow('told');
  await started.promise;
  await timers.stop();
  assert.equal(await run, 'done');
  assert.equal(sawAbort, true);
});
