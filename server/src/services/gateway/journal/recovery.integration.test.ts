import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { newTenantId, silentLogger, systemClock, type TenantId } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createJournal, type JournalStore, type PendingRecord } from './journal.ts';
import { recoverJournals, type RecoveryReport } from './recovery.ts';
import { createPartitionKeeper } from '../settlement/retention.ts';
import { createSettlement, type Settlement } from '../settlement/settlement.ts';
import { noMetrics, openNow, recordOf, settleNow, temporaryFolder } from './testing/records.ts';

const writerPath = fileURLToPath(new URL('./testing/journal-writer.ts', import.meta.url));
const parts = { clock: systemClock, logger: silentLogger, metrics: noMetrics };

interface UsageRow {
  readonly request_id: string;
  readonly outcome: string;
  readonly is_estimated: boolean;
  readonly input_tokens: bigint;
  readonly output_tokens: bigint;
}

for (const adapter of testedAdapters()) {
  describe(`recovery on ${adapter}`, () => {
    let database: TestDatabase;
    let folder: Awaited<ReturnType<typeof temporaryFolder>>;
    let journal: JournalStore;
    let settlement: Settlement;
    let tenantId: TenantId;
    before(async () => {
      database = await openTestDatabase({ adapter });
    });
    after(() => database.close());
    beforeEach(async () => {
      folder = await temporaryFolder();
      tenantId = newTenantId();
      journal = createJournal(parts, { directory: folder.path });
      const partitions = createPartitionKeeper({ ...parts, db: database.db });
      settlement = createSettlement({ ...parts, db: database.db, journal, partitions });
    });
    afterEach(async () => {
      journal.close();
      await folder.remove();
    });

    async function recover(
      ship = (records: readonly PendingRecord[]) => settlement.ship(records),
    ): Promise<RecoveryReport> {
      return recoverJournals(
        { clock: systemClock, logger: silentLogger, ship },
        { directory: folder.path, ownWriterId: journal.writerId, batchRecords: 100 },
      );
    }

    async function usageRows(): Promise<readonly UsageRow[]> {
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<UsageRow>`
          select request_id, outcome, is_estimated, input_tokens, output_tokens from tenant.usage_records
        `.execute(tx),
      );
      return rows;
    }

    async function eventCount(): Promise<number> {
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<{ count: number }>`select count(*)::integer as count from tenant.events`.execute(tx),
      );
      return rows[0]?.count ?? -1;
    }

    async function leftOfOthers(): Promise<string[]> {
      return (await readdir(folder.path)).filter((name) => !name.includes(journal.writerId));
    }

    test('after kill -9 under load every settled request has one usage row, and every open one is marked as interrupted', async () => {
      const acknowledged: string[] = [];
      for (let round = 0; round < 3; round += 1) {
        const child = spawn(process.execPath, [writerPath, folder.path, tenantId], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const ended = once(child, 'exit');
        let heard = 0;
        for await (const line of createInterface(child.stdout)) {
          acknowledged.push(line.slice('settled '.length));
          heard += 1;
          if (heard === 400 + round * 137) child.kill('SIGKILL');
        }
        await ended;
        assert.equal(child.signalCode, 'SIGKILL');
      }
      const report = await recover();
      assert.equal(report.writers, 3);
      assert.ok(report.settled >= acknowledged.length);
      const rows = await usageRows();
      const completed = new Set(
        rows.filter((row) => row.outcome === 'completed').map((row) => row.request_id),
      );
      const missing = acknowledged.filter((id) => !completed.has(id));
      assert.deepEqual(missing, []);
      assert.equal(rows.length, report.settled + report.interrupted);
      assert.equal(report.inserted, rows.length);
      assert.equal(await eventCount(), rows.length);
      const interrupted = rows.filter((row) => row.outcome === 'failed');
      assert.equal(interrupted.length, report.interrupted);
      assert.ok(report.interrupted >= 3 && report.interrupted <= 3 * 30, String(report.interrupted));
      for (const row of interrupted) {
        assert.deepEqual([row.is_estimated, row.input_tokens, row.output_tokens], [true, 77n, 0n]);
      }
      assert.deepEqual(await leftOfOthers(), []);
    });

    /** The files of a process that shipped `shipped` records, left `settled` unshipped and `open` open. */
    async function leave(shipped: number, settled: number, open: number): Promise<string> {
      const dead = createJournal(parts, { directory: folder.path });
      const partitions = createPartitionKeeper({ ...parts, db: database.db });
      const shipping = createSettlement({ ...parts, db: database.db, journal: dead, partitions });
      for (let index = 0; index < open; index += 1) openNow(dead, recordOf(tenantId), tenantId);
      for (let index = 0; index < shipped + settled; index += 1) {
        if (index === shipped) await shipping.flush();
        const record = recordOf(tenantId);
        openNow(dead, record, tenantId);
        await settleNow(dead, record);
      }
      if (settled === 0) await shipping.flush();
      const file = (await readdir(folder.path)).find((name) => name.includes(dead.writerId));
      return join(folder.path, file ?? 'none');
    }

    test('what was shipped before the death is not shipped again', async () => {
      await leave(120, 30, 4);
      assert.deepEqual(await recover(), {
        writers: 1,
        settled: 30,
        interrupted: 4,
        inserted: 34,
        damagedLines: 0,
      });
      assert.equal((await usageRows()).length, 154);
    });

    test('a record that was shipped but not checkpointed is not counted twice', async () => {
      const path = await leave(10, 5, 0);
      const text = await readFile(path, 'utf8');
      await writeFile(
        path,
        text
          .split('\n')
          .filter((line) => !line.startsWith('C'))
          .join('\n'),
      );
      assert.deepEqual(await recover(), {
        writers: 1,
        settled: 15,
        interrupted: 0,
        inserted: 5,
        damagedLines: 0,
      });
      assert.equal(await eventCount(), 15);
    });

    test('a recovery that dies in the middle is done again, and adds nothing twice', async () => {
      await leave(0, 250, 3);
      let calls = 0;
      const failing = async (records: readonly PendingRecord[]): Promise<number> => {
        calls += 1;
        if (calls === 2) throw new Error('killed');
        return settlement.ship(records);
      };
      await assert.rejects(recover(failing), /killed/);
      assert.equal((await leftOfOthers()).length, 1);
      assert.equal((await usageRows()).length, 100);
      assert.deepEqual(await recover(), {
        writers: 1,
        settled: 250,
        interrupted: 3,
        inserted: 153,
        damagedLines: 0,
      });
      assert.equal(await eventCount(), 253);
      assert.deepEqual(await leftOfOthers(), []);
    });

    test('a line that was cut at the end of a file is no record', async () => {
      const path = await leave(0, 5, 0);
      const line = (await readFile(path, 'utf8')).split('\n')[1] ?? '';
      await appendFile(path, line.slice(0, 300));
      assert.deepEqual(await recover(), {
        writers: 1,
        settled: 5,
        interrupted: 0,
        inserted: 5,
        damagedLines: 0,
      });
    });

    test('a damaged line in the middle is reported, its file is kept, and the lines around it count', async () => {
      const path = await leave(0, 5, 0);
      const lines = (await readFile(path, 'utf8')).split('\n');
      const line = lines[3] ?? '';
      lines[3] = `${line.slice(0, 60)}\0\0\0\0${line.slice(64)}`;
      await writeFile(path, lines.join('\n'));
      const report = await recover();
      assert.equal(report.damagedLines, 1);
      assert.equal(report.settled, 4);
      assert.equal(report.interrupted, 1);
      assert.ok((await leftOfOthers())[0]?.startsWith('damaged-'));
    });

    test('an own journal is left alone, and without journals there is nothing to do', async () => {
      const record = recordOf(tenantId);
      openNow(journal, record, tenantId);
      assert.deepEqual(await recover(), {
        writers: 0,
        settled: 0,
        interrupted: 0,
        inserted: 0,
        damagedLines: 0,
      });
      assert.equal((await readdir(folder.path)).length, 1);
    });
  });
}
