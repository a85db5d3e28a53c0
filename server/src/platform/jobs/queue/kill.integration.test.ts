import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { openTestDatabase, testedAdapters } from '#testing';
import { z } from 'zod';
import { defineJob } from '../index.ts';
import { jobsOver, passTime, rowOf, until } from './testing/jobs-over.ts';

const needsServer = testedAdapters().includes('postgres')
  ? {}
  : { skip: 'two processes need a server: run with --services' };

test('the job of a worker that was killed runs again after its lease, once', needsServer, async () => {
  const database = await openTestDatabase({ adapter: 'postgres' });
  const tenantId = await database.newTenant();
  const attempts: number[] = [];
  const job = defineJob({
    name: 'killed',
    scope: 'tenant',
    data: z.object({ row: z.string() }),
    deadlineMs: 60_000,
    retry: { limit: 3, delayMs: 0, backoff: false },
    run: async ({ attempt }) => {
      attempts.push(attempt);
    },
  });
  const enqueuing = jobsOver(database, [job], { isWorker: false });
  await enqueuing.lifecycle.start();
  const id = await database.db.withTenant({ tenantId }, (tx) => enqueuing.api.enqueue(tx, job, { row: 'a' }));
  const victim = spawn(
    process.execPath,
    [new URL('testing/worker.ts', import.meta.url).pathname, JSON.stringify(database.urls), job.name],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    const said: readonly unknown[] = await once(victim.stdout, 'data');
    assert.match(String(said[0]), /^running 1/);
    victim.kill('SIGKILL');
    await once(victim, 'exit');
    const rescuer = jobsOver(database, [job], { upkeepMs: 2000 });
    await rescuer.lifecycle.start();
    await rescuer.upkeep();
    assert.equal((await rowOf(database, id))?.state, 'active', 'its lease lasts still');
    assert.deepEqual(attempts, []);
    await passTime(database, id);
    await until(async () => (await rowOf(database, id))?.state === 'completed');
    await rescuer.lifecycle.stop();
    assert.deepEqual(attempts, [2]);
  } finally {
    victim.kill('SIGKILL');
    await database.close();
  }
});
