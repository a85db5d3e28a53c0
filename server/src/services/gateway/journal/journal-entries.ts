import type { RequestCompletedV1 } from '@stoa/contracts';
import type { AppError, RequestId, RosterPlace } from '#kernel';
import { settledRow } from '../settlement/settled-row.ts';
import { jsonAt, type RecordBytes, type RecordPlace } from './record-bytes.ts';
import type { Segment } from './journal-segments.ts';
import type { OpenedEntry, OpenedRequest, Written } from '../types.ts';

/** A settled record on its way to the database. */
export interface PendingRecord {
  readonly requestId: string;
  /** The record as JSON. */
  readonly json: string;
  /**
   * Where its bytes lie, with its columns as settled-row.ts writes them; where there is none (or no row in it), the
   * database takes the columns from the JSON, at more cost.
   */
  readonly place?: RecordPlace;
}

/** What waits for the next write. */
export abstract class Entry {
  #onWritten: Written | null;
  /** Where its line ends in the next write; 0 where it has none. */
  lineEnd = 0;
  /** Which file has its line. */
  segment: Segment | null = null;
  /** What its request is told. */
  refusal: AppError | null = null;

  constructor(onWritten: Written) {
    this.#onWritten = onWritten;
  }

  /** Calls whoever waits, and lets go of it: the record stays for its batch, the request behind it must not. */
  tell(refusal: AppError | null): void {
    const onWritten = this.#onWritten;
    this.#onWritten = null;
    onWritten?.(refusal);
  }
}

export class Opened extends Entry implements OpenedRequest {
  readonly entry: OpenedEntry;
  place: RosterPlace<Opened> | null = null;
  isSettled = false;

  constructor(entry: OpenedEntry, onWritten: Written) {
    super(onWritten);
    this.entry = entry;
  }

  get requestId(): RequestId {
    return this.entry.requestId;
  }
}

export class Waiting extends Entry implements PendingRecord {
  readonly requestId: string;
  readonly tenantId: string;
  readonly place: RecordPlace;
  /** Null where it was refused before it was opened, and once it is written. */
  opened: Opened | null;
  /** Where its line ends in the segment. */
  end = 0;
  /** Written out of its turn: keeps its segment, and moves no checkpoint. */
  isLate = false;
  /** Ends the wait of commit mode. */
  confirmed: (() => void) | null = null;

  constructor(record: RequestCompletedV1, bytes: RecordBytes, opened: Opened | null, onWritten: Written) {
    super(onWritten);
    this.requestId = record.request_id;
    this.tenantId = record.tenant_id;
    this.place = bytes.add(JSON.stringify(record), settledRow(record));
    this.opened = opened;
  }

  get json(): string {
    return jsonAt(this.place);
  }
}
