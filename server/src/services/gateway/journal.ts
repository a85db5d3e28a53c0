import type { RequestCompletedV1 } from '@stoa/contracts';
import type { Clock, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import type { Journal } from './types.ts';

export interface JournalDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface JournalSettings {
  /** Folder of the segments; made where it is missing. The caller holds the lock of the data directory around it. */
  readonly directory: string;
  /** Bytes on disk beyond which no request is opened in the journal any more. Default 1 GiB, at least two segments. */
  readonly maxBytes?: number;
  /** Size at which a segment is closed and the next begun. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** Records open or not shipped that are held in memory at most. Default 100,000. */
  readonly maxPending?: number;
  /** `commit`: `settle` resolves only when the database has the record. Default `journal`. */
  readonly durability?: 'journal' | 'commit';
  /** How long `settle` waits for the database in commit mode before it gives up waiting. Milliseconds, default 10,000. */
  readonly commitWaitMs?: number;
}

/** A settled record on its way to the database. */
export interface PendingRecord {
  readonly requestId: string;
  readonly tenantId: string;
  /** The record as JSON, encoded once. */
  readonly json: string;
}

/** What settlement sees of the journal, beside what the request path sees. */
export interface JournalStore extends Journal {
  /** The oldest records not shipped yet, at most `maxRecords` and (but for one) `maxBytes`. They stay until `confirm`. */
  take(maxRecords: number, maxBytes: number): readonly PendingRecord[];
  /** The database has these (or they were rejected): forgets them, advances the checkpoint, deletes what is all shipped. */
  confirm(records: readonly PendingRecord[]): void;
  /** Settlement reports whether the database took its last batch; with a full disk this decides about new requests. */
  setDatabaseReachable(isReachable: boolean): void;
  /** Called when the first record after an empty queue arrives, and when a whole batch waits. At most one listener. */
  onPending(listener: () => void): void;
  /** Appends what can never be shipped to `rejected-<writer>.jsonl`. Throws where even that can't be written. */
  reject(record: PendingRecord, reason: string): void;
  /** Of this process; recovery leaves its segments alone. */
  readonly writerId: string;
  /** Writes nothing more; deletes the segments where everything is shipped, leaves them for recovery otherwise. */
  close(): void;
}

/**
 * Opens the journal of this process.
 * @throws where the folder can't be made or written
 */
export declare function createJournal(deps: JournalDeps, settings: JournalSettings): JournalStore;

export type { RequestCompletedV1 };
