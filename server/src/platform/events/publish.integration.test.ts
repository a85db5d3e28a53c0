import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type EventData, eventTable } from '@stoa/contracts';
import { AppError, newUuid } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { appendEvents, logStart, type NewEvent, readEvents, type TypedEvent } from './index.ts';

const run: EventData<'run.changed.v1'> = eventTable['run.changed.v1'].example;

for (const adapter of testedAdapters()) {
  describe(`publishing on ${adapter}`, () => {
    let database: TestDatabase;
    let tenantId: string;
    before(async () => {
      database = await openTestDatabase({ adapter });
      tenantId = await database.newTenant();
    });
    after(() => database.close());

    function runChanged(data: unknown = run, keyversion = 1n): NewEvent {
      const event: TypedEvent = {
        tenantId,
        eventId: newUuid(),
        type: 'run.changed.v1',
        keyversion,
        occurredAt: new Date(),
        data: run,
      };
      // What a caller without the compiler's help could send.
      return Object.assign(event, { data });
    }

    async function told(): Promise<readonly string[]> {
      // A writer in another database of the server may hold the horizon back for a while.
      for (const deadline = Date.now() + 20_000; ; ) {
        const page = await database.db.withTenant({ tenantId }, (tx) => readEvents(tx, logStart, 100));
        if (page.length > 0 || Date.now() > deadline)
          return page.map((event) => `${event.key} ${event.data}`);
      }
    }

    async function refusal(...events: NewEvent[]): Promise<AppError> {
      const error = await database.db
        .withTenant({ tenantId }, (tx) => appendEvents(tx, events))
        .then(() => null)
        .catch((thrown: unknown) => thrown);
      assert.ok(error instanceof AppError, String(error));
      assert.equal(error.code, 'event_refused');
      return error;
    }

    test('data that does not fit is refused with the path of the fault, and nothing is written', async () => {
      const cases: [unknown, string][] = [
        [{ ...run, step: { ...run.step, attempt: 0 } }, 'data.step.attempt'],
        [{ ...run, run_id: 'x' }, 'data.run_id'],
        [{ ...run, run_id: undefined }, 'data.run_id'],
        [{ ...run, change: 'Not a word' }, 'data.change'],
        [{ ...run, step: { ...run.step, atempt: 2 } }, 'data.step.atempt'],
        [{ ...run, error: { code: 'x', message: 3 } }, 'data.error.message'],
        [null, 'data'],
        [[], 'data'],
      ];
      for (const [data, path] of cases) {
        const error = await refusal(runChanged(), runChanged(data, 2n));
        assert.equal(error.param, path);
        assert.match(error.publicMessage, /^run\.changed\.v1: data/);
      }
      const unknown = Object.assign(runChanged(), { type: 'run.vanished.v1' });
      assert.equal((await refusal(unknown)).param, 'type');

      const { length } = await database.db.withTenant({ tenantId }, async (tx) => {
        await appendEvents(tx, [runChanged()]);
        return readEvents(tx, logStart, 100);
      });
      assert.equal(length, 0, 'what was refused is not in the log');
      assert.deepEqual(await told(), [`${run.run_id} ${JSON.stringify(run)}`]);
    });

    test('encoded text is written byte for byte, under the key that its writer gives', async () => {
      tenantId = await database.newTenant();
      const data = '{ "a" : 1.0 , "a": 2 }';
      await database.db.withTenant({ tenantId }, (tx) =>
        appendEvents(tx, [
          {
            tenantId,
            eventId: newUuid(),
            type: 'fixture.happened.v7',
            key: 'k',
            keyversion: 1n,
            occurredAt: new Date(),
            data,
          },
        ]),
      );
      assert.deepEqual(await told(), [`k ${data}`]);
    });
  });
}
