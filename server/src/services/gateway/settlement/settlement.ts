/**
 * Settlement: takes what waits in the journal and writes it to the database, in batches over all tenants.
 *
 * When: 1,000 records or `maxDelayMs` after the first of them, whichever comes first; one batch at a time, one timer at
 * most. What fails is tried again:
 * - the database is away, slow, or not as expected (a missing grant, say): the whole batch, after 0.2 s, doubling to 5 s.
 *   Nothing is dropped; the journal grows up to its bounds.
 * - a partition is missing: it is made (retention.ts), once.
 * - the database refuses what a record holds (SQLSTATE classes 22 and 23): the batch is halved until the record is
 *   found. It goes to the rejected file beside the journal, with an error in the log, and holds nobody else up.
 *
 * Repeats are harmless: writing is idempotent on (tenant, request). So a batch whose commit was lost on its way back is
 * simply sent again. Nearly every batch is all new, and goes by a statement that trusts in that and fails as a whole,
 * by the primary key, where it is not so; then the batch goes by the one that leaves out what is there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Database, SqlError, type SystemHandle } from '#db';
import { AppError, type Clock, type Logger, uuidTimeMs } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { batchRecords, type JournalStore, type PendingRecord } from '../journal/journal.ts';
import { hasRow, linesOf, type RecordPlace } from '../journal/record-bytes.ts';
import { settlementMetrics } from '../journal/journal-metrics.ts';
import type { PartitionKeeper } from './retention.ts';
import { insertNewRecords, insertRecords } from './settlement.sql.ts';

export interface SettlementDeps {
  readonly db: Database;
  readonly journal: JournalStore;
  readonly partitions: PartitionKeeper;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface SettlementSettings {
  /** How long a record waits at most for its batch. Milliseconds, default 150. */
  readonly maxDelayMs?: number;
  /** Deadline of each statement. Milliseconds, default 30,000. */
  readonly deadlineMs?: number;
}

export interface Settlement {
  /** Begins to ship. */
  start(): void;
  /** Resolves when all that waits at this moment is in the database (or rejected); rejects where a batch fails. */
  flush(): Promise<void>;
  /**
   * Writes records that come from elsewhere than this process's journal; for recovery. Resolves when each is in the
   * database or rejected, and rejects with the database's error otherwise. Answers how many were new.
   */
  ship(records: readonly PendingRecord[]): Promise<number>;
  /** Ships what it can within the deadline (default 5,000 ms), then leaves the rest in the journal. */
  stop(deadlineMs?: number): Promise<void>;
  /** False while the last batch failed. */
  isHealthy(): boolean;
}

/** One batch at most: bounds one parameter, and the memory of a batch. */
const batchBytes = 8 * 1024 * 1024;
const firstRetryMs = 200;
const lastRetryMs = 5000;

function isDataFault(error: unknown): boolean {
  if (error instanceof AppError) return error.code === 'invalid_text';
  return error instanceof SqlError && (error.sqlState.startsWith('22') || error.sqlState.startsWith('23'));
}

function isMissingPartition(error: unknown): boolean {
  return error instanceof SqlError && error.sqlState === '23514' && error.constraint === null;
}

function isRepeat(error: unknown): boolean {
  return error instanceof SqlError && error.sqlState === '23505';
}

/**
 * One batch in one transaction: the short way for all that have their row, which nearly always is all of them, and the
 * long way for the rest. Where one of them is in the database already, the short way fails, and all go the long way.
 * Answers how many were new.
 */
export async function writeRecords(
  db: Database,
  records: readonly PendingRecord[],
  deadlineMs: number,
): Promise<number> {
  const [places, rest]: [RecordPlace[], string[]] = [[], []];
  for (const record of records) {
    if (record.place !== undefined && hasRow(record.place)) places.push(record.place);
    else rest.push(record.json);
  }
  const writeRest = async (tx: SystemHandle, all: readonly string[]): Promise<number> =>
    all.length === 0 ? 0 : insertRecords(tx, `[${all.join(',')}]`);
  if (places.length > 0) {
    try {
      return await db.withSystem(
        'settlement',
        async (tx) => {
          await insertNewRecords(tx, linesOf(places));
          return places.length + (await writeRest(tx, rest));
        },
        { deadlineMs },
      );
    } catch (error) {
      if (!isRepeat(error)) throw error;
    }
  }
  const all = records.map((record) => record.json);
  return db.withSystem('settlement', async (tx) => writeRest(tx, all), { deadlineMs });
}

class BatchSettlement implements Settlement {
  readonly #deps: SettlementDeps;
  readonly #maxDelayMs: number;
  readonly #deadlineMs: number;
  readonly #metrics: ReturnType<typeof settlementMetrics>;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> | null = null;
  #isStarted = false;
  #failuresInRow = 0;
  #lastError: unknown = null;

  constructor(deps: SettlementDeps, settings: SettlementSettings) {
    this.#deps = deps;
    this.#maxDelayMs = settings.maxDelayMs ?? 150;
    this.#deadlineMs = settings.deadlineMs ?? 30_000;
    this.#metrics = settlementMetrics(deps.metrics);
  }

  start(): void {
    this.#isStarted = true;
    this.#deps.journal.onPending(() => this.#arm());
    this.#arm();
  }

  isHealthy(): boolean {
    return this.#failuresInRow === 0;
  }

  async flush(): Promise<void> {
    const { journal } = this.#deps;
    const target = journal.settledCount;
    while (journal.confirmedCount < target) {
      const failures = this.#failuresInRow;
      await this.#runOnce();
      if (this.#failuresInRow > failures) throw this.#lastError;
    }
  }

  async ship(records: readonly PendingRecord[]): Promise<number> {
    const [first] = records;
    if (first === undefined) return 0;
    try {
      return await this.#insert(records);
    } catch (error) {
      if (!isDataFault(error)) throw error;
      if (records.length === 1) {
        this.#reject(first, error);
        return 0;
      }
      const middle = records.length >> 1;
      return (await this.ship(records.slice(0, middle))) + (await this.ship(records.slice(middle)));
    }
  }

  async stop(deadlineMs = 5000): Promise<void> {
    this.#isStarted = false;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const deadline = new AbortController();
    const timeout = delay(deadlineMs, undefined, { signal: deadline.signal }).catch(() => undefined);
    await Promise.race([this.#shipUntil(deadline.signal), timeout]);
    deadline.abort();
    const left = this.#deps.journal.depth;
    if (left > 0) this.#deps.logger.warn({ left }, 'records stay in the journal for the next start');
  }

  /** Ships until nothing waits or the signal aborts. Never rejects. */
  async #shipUntil(signal: AbortSignal): Promise<void> {
    while (this.#deps.journal.depth > 0 && !signal.aborted) {
      try {
        await this.flush();
      } catch {
        await delay(firstRetryMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Makes sure that a run is under way or due. */
  #arm(): void {
    if (!this.#isStarted || this.#running !== null) return;
    const { depth } = this.#deps.journal;
    if (depth === 0) return;
    const isDue = depth >= batchRecords && this.#failuresInRow === 0;
    if (this.#timer !== null) {
      if (!isDue) return;
      clearTimeout(this.#timer);
    }
    const waitMs = this.#failuresInRow === 0 ? this.#maxDelayMs : this.#backoffMs();
    this.#timer = setTimeout(() => this.#tick(), isDue ? 0 : waitMs);
  }

  #tick(): void {
    this.#timer = null;
    this.#runOnce().then(
      () => this.#arm(),
      (error: unknown) => this.#deps.logger.error({ err: error }, 'settlement failed in a way it should not'),
    );
  }

  #backoffMs(): number {
    return Math.min(lastRetryMs, firstRetryMs * 2 ** Math.min(this.#failuresInRow - 1, 10));
  }

  /** One batch; joins the one that is under way. Never rejects for what the database says. */
  async #runOnce(): Promise<void> {
    this.#running ??= this.#shipBatch().finally(() => {
      this.#running = null;
    });
    await this.#running;
  }

  async #shipBatch(): Promise<void> {
    const { journal, clock } = this.#deps;
    const records = journal.take(batchRecords, batchBytes);
    if (records.length === 0) return;
    const startedMs = clock.monotonic();
    try {
      await this.ship(records);
    } catch (error) {
      this.#noteFailure(error);
      return;
    }
    journal.confirm(records.length);
    this.#metrics.batchSeconds.observe((clock.monotonic() - startedMs) / 1000);
    if (this.#failuresInRow > 0) this.#deps.logger.info({}, 'settlement works again');
    this.#failuresInRow = 0;
    journal.setDatabaseReachable(true);
  }

  #noteFailure(error: unknown): void {
    this.#lastError = error;
    this.#failuresInRow += 1;
    this.#metrics.failures.add(1);
    this.#deps.journal.setDatabaseReachable(false);
    if (this.#failuresInRow > 1) return;
    this.#deps.logger.warn(
      { err: error },
      'settlement cannot write to the database; records wait in the journal',
    );
  }

  async #insert(records: readonly PendingRecord[]): Promise<number> {
    try {
      return await this.#insertOnce(records);
    } catch (error) {
      if (!isMissingPartition(error)) throw error;
      const times = records.map((record) => uuidTimeMs(record.requestId));
      const isMade = await this.#deps.partitions.prepareFor(
        times.reduce((least, time) => Math.min(least, time)),
        times.reduce((most, time) => Math.max(most, time)),
      );
      if (!isMade) throw error;
      return this.#insertOnce(records);
    }
  }

  async #insertOnce(records: readonly PendingRecord[]): Promise<number> {
    const { db } = this.#deps;
    const inserted = await writeRecords(db, records, this.#deadlineMs);
    this.#metrics.settled.add(inserted);
    return inserted;
  }

  #reject(record: PendingRecord, error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    this.#deps.journal.reject(record, reason);
    this.#metrics.rejected.add(1);
    this.#deps.logger.error(
      { err: error, requestId: record.requestId },
      'the database refused a record; it lies in the rejected file beside the journal',
    );
  }
}

/** Ships the journal of this process. `start` once recovery is over. */
export function createSettlement(deps: SettlementDeps, settings: SettlementSettings = {}): Settlement {
  return new BatchSettlement(deps, settings);
}
