/** Jobs that do little but wait for somebody outside have places of their own, and many are enqueued in one statement. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openTestDatabase, testedAdapters } from '#testing';
import { z } from 'zod';
import { defineJob } from '../index.ts';
import { jobsOver, until } from './testing/jobs-over.ts';

for (const adapter of testedAdapters()) {
  test(`jobs that wait fill their own places, and those that work go on (${adapter})`, async () => {
    const database = await openTestDatabase({ adapter });
    const tenants = await Promise.all([database.newTenant(), database.newTenant()]);
    const released = Promise.withResolvers<void>();
    const begun: number[] = [];
    const worked: string[] = [];
    const common = {
      scope: 'tenant',
      deadlineMs: 30_000,
      retry: { limit: 0, delayMs: 1_000, backoff: false },
    } as const;
    const waits = defineJob({
      ...common,
      name: 'test-waits',
      data: z.strictObject({ number: z.number() }),
      isWaiting: true,
      async run({ data }) {
        begun.push(data.number);
        await released.promise;
      },
    });
    const works = defineJob({
      ...common,
      name: 'test-works',
      data: z.strictObject({}),
      async run({ tenantId }) {
        worked.push(tenantId ?? '');
      },
    });
    const module = jobsOver(database, [waits, works], { places: 1, waitingPlaces: 3 });
    await module.lifecycle.start();
    await database.db.withSystem('webhook-fan-out', (tx) =>
      module.api.enqueueEach(
        tx,
        waits,
        [1, 2, 3, 4, 5].map((number) => ({ tenantId: tenants[number % 2] ?? '', data: { number } })),
      ),
    );
    await until(() => begun.length === 3, 20_000, 'the places for waiting jobs to be full');
    for (const tenantId of tenants)
      await database.db.withTenant({ tenantId }, (tx) => module.api.enqueue(tx, works, {}));
    await until(() => worked.length === 2, 20_000, 'the jobs that work');
    assert.equal(begun.length, 3);
    released.resolve();
    await until(() => begun.length === 5, 20_000, 'the rest');
    assert.deepEqual(new Set(begun), new Set([1, 2, 3, 4, 5]));
    await module.lifecycle.stop();
    await database.close();
  });
}
