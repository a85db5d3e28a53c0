import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { announceProcess } from '#db';
import { AppError, silentLogger } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { migrationSets } from './migrations.ts';
import { afterRestoreCommand } from './schema-commands.ts';

for (const adapter of testedAdapters()) {
  describe(`db after-restore on ${adapter}`, () => {
    let database: TestDatabase;
    before(async () => {
      database = await openTestDatabase({ adapter });
    });
    after(() => database.close());

    const said: { value: object; text: string }[] = [];
    const say = (value: object, text: string): void => void said.push({ value, text });

    test('is refused by the name of a process that runs, and a dry run is not', async () => {
      const { db } = database;
      const facts = { roles: ['gateway'], host: 'web-1', pid: 4711, version: '0.0.1', sets: migrationSets };
      const announcement = announceProcess({ db, logger: silentLogger }, facts);
      await announcement.start();
      const options = { stream: null, say };
      try {
        await assert.rejects(
          afterRestoreCommand(db, migrationSets, { ...options, dryRun: false }),
          (error) =>
            error instanceof AppError &&
            error.code === 'conflict' &&
            /gateway on web-1 \(process 4711.*End them/.test(error.publicMessage),
        );
        assert.equal(said.length, 0);
        await afterRestoreCommand(db, migrationSets, { ...options, dryRun: true });
        assert.match(said.pop()?.text ?? '', /none has to move\.\nNothing was changed\.$/);
      } finally {
        await announcement.stop();
      }
    });

    test('says what it did, and what is left to do about the stream', async () => {
      await afterRestoreCommand(database.db, migrationSets, { dryRun: false, stream: 'STOA_EVENTS', say });
      const last = said.pop();
      assert.match(last?.text ?? '', /The log has a new id\.\nNext: delete the stream STOA_EVENTS of NATS/);
      assert.deepEqual(last?.value, {
        dry_run: false,
        found: { places_ahead: 0, relays_ahead: 0, events_ahead: false, other_server: false },
        events: 0,
        places: 0,
        relays: 0,
        replays: 0,
        consumers: [],
      });
    });
  });
}
