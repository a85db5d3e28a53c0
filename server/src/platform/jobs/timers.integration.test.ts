import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { sql } from 'kysely';
import { manualClock, silentLogger } from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { createTimers, type Timers, type TimerTask } from './index.ts';

let database: TestDatabase;
before(async () => {
  database = await openTestDatabase({ migrations: [] });
});
after(() => database.close());

function timersOf(tasks: readonly TimerTask[]): Timers {
  return createTimers({ db: database.db, clock: manualClock(), logger: silentLogger }, tasks);
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
