/**
 * Every task that one process at a time does writes only while it leads. Held against the composition itself, so that a task
 * to come is tried too: its leader stands still behind its lease, another takes the lease over, and what the first one
 * writes afterwards must not pass any door of the database.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '#db';
import { createTimers, type TimerOutcome, type TimerTask } from '#jobs';
import { type Logger, silentLogger, systemClock } from '#kernel';
import { createTelemetry, type Telemetry } from '#telemetry';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { compose, type Composition } from './compose.ts';
import { loadSettings } from './config.ts';
import { openDataDirectory } from './data-directory.ts';
import { resolveRoles } from './roles.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');

/** A task that forgets its own door, as each did once. */
const careless = (db: Database): TimerTask => ({
  name: 'careless',
  everyMs: 60_000,
  async run() {
    await db.withSystem('retention', (tx) => sql`delete from tenant.revoked_tokens`.execute(tx));
  },
});

interface Turn {
  readonly outcome: TimerOutcome;
  /** Doors that were passed to their commit after the lease was taken, by name. */
  readonly passed: readonly string[];
  readonly errors: readonly unknown[];
}

for (const adapter of testedAdapters()) {
  describe(`leader tasks, on ${adapter}`, () => {
    let database: TestDatabase;
    let folder: string;
    let telemetry: Telemetry;
    let composition: Composition;
    let watched: Database;
    let passed: string[] = [];
    /** What happens once a leader has taken its lease. */
    let onLeading: () => Promise<void> = () => Promise.resolve();

    before(async () => {
      database = await openTestDatabase({ adapter });
      folder = mkdtempSync(path.join(tmpdir(), 'stoa-leader-tasks-'));
      watched = watch(database.db);
      const { settings } = loadSettings({ STOA_DATA_DIR: folder }, { rootDirectory: root });
      telemetry = await createTelemetry({
        logLevel: 'error',
        serviceName: 'leader-tasks',
        serviceVersion: '0.0.0',
        tracing: null,
      });
      composition = await compose({
        settings,
        directory: openDataDirectory(folder),
        db: watched,
        telemetry,
        roles: resolveRoles(['all']),
        rootDirectory: root,
      });
    });
    after(async () => {
      await composition.close();
      await telemetry.stop();
      await database.close();
      rmSync(folder, { recursive: true, force: true });
    });

    /** The database, telling which doors were passed. */
    function watch(db: Database): Database {
      const told = <T>(name: string, passage: Promise<T>): Promise<T> =>
        passage.then((value) => {
          passed.push(name);
          return value;
        });
      return {
        ...db,
        withTenant: (context, fn, options) => told('tenant', db.withTenant(context, fn, options)),
        withOperator: (context, reason, fn, options) =>
          told('operator', db.withOperator(context, reason, fn, options)),
        async withSystem(job, fn, options) {
          if (job !== 'leases') return told(job, db.withSystem(job, fn, options));
          const result = await db.withSystem(job, fn, options);
          await onLeading();
          return result;
        },
      };
    }

    async function turnOf(task: TimerTask, whenLeading: () => Promise<void>): Promise<Turn> {
      const errors: unknown[] = [];
      const logger: Logger = {
        ...silentLogger,
        error: (fields: object) => {
          errors.push('err' in fields ? fields.err : fields);
        },
      };
      const timers = createTimers({ db: watched, clock: systemClock, logger }, [task]);
      passed = [];
      onLeading = whenLeading;
      const outcome = await timers.runNow(task.name);
      const turn = { outcome, passed, errors };
      onLeading = () => Promise.resolve();
      await timers.stop();
      return turn;
    }

    /** As another process does after the lease's time. */
    const takeOver = async (name: string): Promise<void> => {
      await database.db.withSystem('leases', (tx) =>
        sql`
          update platform.leases set holder = gen_random_uuid()::text, fence = fence + 1,
            expires_at = clock_timestamp() + interval '1 minute'
          where name = ${name}
        `.execute(tx),
      );
    };

    const release = async (name: string): Promise<void> => {
      await database.db.withSystem('leases', (tx) =>
        sql`update platform.leases set expires_at = clock_timestamp() where name = ${name}`.execute(tx),
      );
    };

    test('none writes once another leads, and each does while it leads', async () => {
      assert.deepEqual(
        composition.leaderTasks.map(({ name }) => name).sort(),
        [
          'access.idempotency-retention',
          'access.key-expiry-warnings',
          'access.signing-keys',
          'access.token-retention',
          'audit-months',
          'event-inbox-retention',
          'event-partitions',
          'gateway-partitions',
          'process-announcements',
        ],
        'the tasks of the composition; jobs-upkeep has a test of its own beside it',
      );
      for (const task of composition.leaderTasks) {
        const overtaken = await turnOf(task, () => takeOver(task.name));
        assert.deepEqual(overtaken.passed, [], `${task.name} wrote although another leads`);
        assert.equal(overtaken.outcome, 'failed', task.name);
        assert.match(String(overtaken.errors[0]), /LeaseLost/, task.name);
        await release(task.name);
        const leading = await turnOf(task, () => Promise.resolve());
        assert.equal(leading.outcome, 'done', `${task.name}: ${String(leading.errors[0])}`);
        assert.ok(leading.passed.length > 0, `${task.name} did nothing while it led`);
      }
    });

    test('announcements of processes that ended without a word go after a day, and no others', async () => {
      const put = (pid: number, silentFor: string) =>
        database.db.withSystem('schema', (tx) =>
          sql`
            insert into platform.processes (process_id, roles, host, pid, version, known, alive_until)
            values (gen_random_uuid(), '{gateway}', 'web-1', ${pid}, '0.0.1', '{}',
              clock_timestamp() - ${silentFor}::interval)
          `.execute(tx),
        );
      await put(1, '-20 seconds');
      await put(2, '23 hours');
      await put(3, '25 hours');
      const task = composition.leaderTasks.find(({ name }) => name === 'process-announcements');
      assert.ok(task);
      assert.equal((await turnOf(task, () => Promise.resolve())).outcome, 'done');
      const { rows } = await database.db.withSystem('schema', (tx) =>
        sql<{ pid: number }>`select pid from platform.processes order by pid`.execute(tx),
      );
      assert.deepEqual(
        rows.map(({ pid }) => pid),
        [1, 2],
      );
    });

    test('a task that writes by another door than its own is found', async () => {
      const { passed: byAnother } = await turnOf(careless(watched), () => takeOver('careless'));
      assert.deepEqual(byAnother, ['retention']);
    });
  });
}
