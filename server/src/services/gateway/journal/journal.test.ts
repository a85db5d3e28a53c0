import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { AppError, asRequestId, manualClock, newTenantId, silentLogger } from '#kernel';
import { createJournal, type JournalSettings, type JournalStore } from './journal.ts';
import { type JournalFiles, localFiles } from './journal-files.ts';
import { decodeLine } from './journal-line.ts';
import {
  countingMetrics,
  openedOf,
  openNow,
  recordOf,
  settleNow,
  temporaryFolder,
} from './testing/records.ts';

/** A disk of which a test says how many bytes it still takes. */
function limitedFiles(): JournalFiles & { bytesLeft: number; canTruncate: boolean } {
  const files = {
    ...localFiles,
    bytesLeft: Number.POSITIVE_INFINITY,
    canTruncate: true,
    write(file: number, buffer: Uint8Array, length: number): number {
      const taken = Math.min(length, files.bytesLeft);
      files.bytesLeft -= taken;
      if (taken === 0) throw new Error('ENOSPC');
      return localFiles.write(file, buffer, taken);
    },
    truncate(file: number, length: number): void {
      if (!files.canTruncate) throw new Error('EIO');
      localFiles.truncate(file, length);
    },
  };
  return files;
}

describe('the journal', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  const tenantId = newTenantId();
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(() => folder.remove());

  function open(settings: Partial<JournalSettings> = {}, files: JournalFiles = localFiles) {
    const clock = manualClock();
    const { metrics, count } = countingMetrics();
    const journal = createJournal(
      { clock, logger: silentLogger, metrics, files },
      { directory: folder.path, ...settings },
    );
    return { journal, clock, count };
  }

  function segments(): string[] {
    return readdirSync(folder.path)
      .filter((name) => name.endsWith('.log'))
      .sort();
  }

  /** Every line of every file, and whether all of them are whole. */
  function lines(): { readonly types: string; readonly isWhole: boolean } {
    let types = '';
    let isWhole = true;
    for (const name of segments()) {
      const parts = readFileSync(join(folder.path, name)).toString('utf8').split('\n');
      if (parts.pop() !== '') isWhole = false;
      for (const part of parts) types += decodeLine(Buffer.from(part))?.type ?? '?';
    }
    return { types, isWhole };
  }

  function settleOne(journal: JournalStore): string {
    const record = recordOf(tenantId);
    openNow(journal, record, tenantId);
    assert.equal(settleNow(journal, record), undefined);
    return record.request_id;
  }

  function confirmNow(journal: JournalStore, count: number): void {
    journal.confirm(count);
    journal.flush();
  }

  async function removed(count: number): Promise<void> {
    while (segments().length > count) await new Promise((resolve) => setImmediate(resolve));
  }

  function isRefused(error: unknown): boolean {
    return error instanceof AppError && error.code === 'metering_unavailable' && error.retryAfterMs !== null;
  }

  test('what was opened and settled is in the file when its requests are told', () => {
    const { journal } = open();
    const record = recordOf(tenantId, { end_user: 'a\nb "c" 日本', tags: { 'x\n': '\u2028' } });
    openNow(journal, record, tenantId);
    assert.deepEqual(lines(), { types: 'O', isWhole: true });
    assert.equal(settleNow(journal, record), undefined);
    assert.deepEqual(lines(), { types: 'OS', isWhole: true });
    assert.deepEqual(journal.pending(tenantId, asRequestId(record.request_id)), record);
    assert.deepEqual(journal.pendingOf(tenantId), [record]);
    journal.close();
  });

  test('the lines of one turn share a write, in their order, and each request is told once after it', async () => {
    const writes: number[] = [];
    const files: JournalFiles = {
      ...localFiles,
      write(file, buffer, length) {
        writes.push(length);
        return localFiles.write(file, buffer, length);
      },
    };
    const { journal } = open({}, files);
    settleOne(journal);
    writes.length = 0;
    const told: string[] = [];
    const records = [1, 2, 3].map(() => recordOf(tenantId));
    for (const record of records) {
      const opened = journal.open(openedOf(record, tenantId), () => told.push(`O ${record.request_id}`));
      journal.settle(record, opened, () => told.push(`S ${record.request_id}`));
    }
    assert.deepEqual([writes, told], [[], []], 'nothing is told before it is written');
    while (told.length < 6) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(writes.length, 1);
    assert.deepEqual(
      told,
      records.flatMap(({ request_id: id }) => [`O ${id}`, `S ${id}`]),
    );
    assert.deepEqual(lines(), { types: 'OSOSOSOS', isWhole: true });
    assert.equal(journal.depth, 4);
    journal.close();
  });

  test('what one request does behind its line never keeps another waiting', async () => {
    const { journal } = open();
    const told: string[] = [];
    journal.open(openedOf(recordOf(tenantId), tenantId), () => {
      throw new Error('a fault of code');
    });
    journal.open(openedOf(recordOf(tenantId), tenantId), () => told.push('second'));
    while (told.length === 0) await new Promise((resolve) => setImmediate(resolve));
    journal.close();
  });

  test('a record is forgotten only when it is confirmed, and the checkpoint says so in the file', () => {
    const { journal } = open();
    const id = settleOne(journal);
    const batch = journal.take(10, 1e6);
    assert.deepEqual(
      batch.map((record) => record.requestId),
      [id],
    );
    assert.equal(journal.depth, 1);
    confirmNow(journal, batch.length);
    assert.equal(journal.depth, 0);
    assert.equal(journal.pending(tenantId, asRequestId(id)), null);
    assert.deepEqual(lines(), { types: 'OSC', isWhole: true });
    journal.close();
  });

  test('a batch has at most so many records and bytes, but always one', () => {
    const { journal } = open();
    for (let index = 0; index < 5; index += 1) settleOne(journal);
    const place = journal.take(1, 1e6)[0]?.place;
    assert.ok(place);
    assert.equal(journal.take(3, 1e6).length, 3);
    assert.equal(journal.take(5, 1).length, 1);
    assert.equal(journal.take(5, (place.end - place.start) * 2).length, 2);
    journal.close();
  });

  test('segments end at their size and are deleted once everything in them is shipped and over', async () => {
    const { journal } = open({ segmentBytes: 4000 });
    for (let index = 0; index < 10; index += 1) settleOne(journal);
    const count = segments().length;
    assert.ok(count >= 4, String(count));
    confirmNow(journal, 6);
    await removed(count - 2);
    confirmNow(journal, 4);
    await removed(1);
    journal.close();
    await removed(0);
  });

  test('a long request does not pin its segment: its entry is written again and the old file goes', async () => {
    const { journal } = open({ segmentBytes: 4000 });
    const long = recordOf(tenantId);
    openNow(journal, long, tenantId);
    const [first] = segments();
    for (let index = 0; index < 6; index += 1) settleOne(journal);
    confirmNow(journal, 6);
    await removed(1);
    assert.ok(!segments().includes(first ?? ''));
    const text = segments()
      .map((name) => readFileSync(join(folder.path, name), 'utf8'))
      .join('');
    assert.ok(text.includes(`O ${long.request_id} `));
    assert.equal(settleNow(journal, long), undefined);
    confirmNow(journal, 1);
    journal.close();
    await removed(0);
  });

  test('a line that the disk took in part is cut off, and the next one is whole', () => {
    const files = limitedFiles();
    const { journal, clock } = open({}, files);
    settleOne(journal);
    files.bytesLeft = 100;
    const record = recordOf(tenantId);
    openNow(journal, record, tenantId);
    assert.deepEqual(lines(), { types: 'OS', isWhole: true });
    files.bytesLeft = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    settleOne(journal);
    assert.deepEqual(lines(), { types: 'OSOS', isWhole: true });
    assert.equal(segments().length, 1);
    journal.close();
  });

  test('where a cut line cannot be taken back, the next line goes to a new segment', () => {
    const files = limitedFiles();
    files.canTruncate = false;
    const { journal, clock } = open({}, files);
    files.bytesLeft = 100;
    openNow(journal, recordOf(tenantId), tenantId);
    files.bytesLeft = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    settleOne(journal);
    assert.deepEqual(lines(), { types: 'OS', isWhole: false });
    assert.equal(segments().length, 2);
    journal.close();
  });

  test('with a full disk, requests go on while the database answers, and wait for it', async () => {
    const files = limitedFiles();
    const { journal, count } = open({}, files);
    files.bytesLeft = 0;
    const record = recordOf(tenantId);
    openNow(journal, record, tenantId);
    let isOver = false;
    const settled = Promise.resolve(settleNow(journal, record)).then(() => {
      isOver = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isOver, false);
    confirmNow(journal, 1);
    await settled;
    assert.equal(isOver, true);
    assert.equal(count('stoa_journal_write_failures_total'), 1);
    journal.close();
  });

  test('what neither the disk nor the database took in time does not end well, and is written once the disk takes it', async () => {
    const files = limitedFiles();
    const { journal, clock, count } = open({ commitWaitMs: 20 }, files);
    files.bytesLeft = 0;
    const record = recordOf(tenantId);
    openNow(journal, record, tenantId);
    await assert.rejects(async () => settleNow(journal, record), isRefused);
    assert.equal(count('stoa_journal_unconfirmed_total'), 1);
    files.bytesLeft = Number.POSITIVE_INFINITY;
    clock.advance(1000);
    settleOne(journal);
    assert.deepEqual(lines(), { types: 'OSS', isWhole: true });
    confirmNow(journal, 1);
    assert.deepEqual(lines(), { types: 'OSS', isWhole: true }, 'a late line moves no checkpoint over others');
    confirmNow(journal, 1);
    assert.deepEqual(lines(), { types: 'OSSC', isWhole: true });
    journal.close();
    await removed(0);
  });

  test('a refusal waits for nobody on a full disk', () => {
    const files = limitedFiles();
    const { journal } = open({}, files);
    files.bytesLeft = 0;
    assert.equal(settleNow(journal, recordOf(tenantId, { outcome: 'refused' })), undefined);
    journal.close();
  });

  test('with a full disk and the database away, nothing is opened', () => {
    const files = limitedFiles();
    const { journal, count } = open({}, files);
    files.bytesLeft = 0;
    journal.setDatabaseReachable(false);
    assert.throws(() => openNow(journal, recordOf(tenantId), tenantId), isRefused);
    assert.equal(count('stoa_journal_refusals_total'), 1);
    journal.setDatabaseReachable(true);
    openNow(journal, recordOf(tenantId), tenantId);
    journal.close();
  });

  test('at its bound on disk the journal refuses new requests with the database away, and still settles the open ones', () => {
    const { journal } = open({ segmentBytes: 2000, maxBytes: 4000 });
    journal.setDatabaseReachable(false);
    const early = recordOf(tenantId);
    openNow(journal, early, tenantId);
    for (let index = 0; index < 3; index += 1) settleOne(journal);
    assert.throws(() => openNow(journal, recordOf(tenantId), tenantId), isRefused);
    assert.equal(settleNow(journal, early), undefined);
    assert.equal(journal.depth, 4);
    confirmNow(journal, 4);
    settleOne(journal);
    journal.close();
  });

  test('the number of requests in memory is bounded, and refusals beyond it are dropped', () => {
    const { journal, count } = open({ maxPending: 3 });
    for (let index = 0; index < 3; index += 1) settleOne(journal);
    assert.throws(() => openNow(journal, recordOf(tenantId), tenantId), isRefused);
    assert.equal(settleNow(journal, recordOf(tenantId, { outcome: 'refused' })), undefined);
    assert.equal(journal.depth, 3);
    assert.equal(count('stoa_journal_dropped_refusals_total'), 1);
    journal.close();
  });

  test('in commit mode an answer waits for the database, but not for ever', async () => {
    const { journal, count } = open({ durability: 'commit', commitWaitMs: 20 });
    const first = recordOf(tenantId);
    openNow(journal, first, tenantId);
    const confirmed = settleNow(journal, first);
    assert.ok(confirmed instanceof Promise);
    confirmNow(journal, 1);
    await confirmed;
    assert.equal(count('stoa_journal_unconfirmed_total'), 0);
    await settleNow(journal, recordOf(tenantId));
    assert.equal(count('stoa_journal_unconfirmed_total'), 1);
    assert.equal(journal.depth, 1);
    journal.close();
  });

  test('a request that is open when the journal closes stays in the file', () => {
    const { journal } = open();
    openNow(journal, recordOf(tenantId), tenantId);
    settleOne(journal);
    confirmNow(journal, 1);
    journal.close();
    assert.deepEqual(lines(), { types: 'OOSC', isWhole: true });
  });

  test('settling twice is a fault of code', async () => {
    const { journal } = open();
    const record = recordOf(tenantId);
    openNow(journal, record, tenantId);
    assert.equal(settleNow(journal, record), undefined);
    await assert.rejects(async () => settleNow(journal, record), /settled twice/);
    journal.close();
  });

  test('settlement is called for the first record and for a whole batch', () => {
    const { journal } = open();
    let calls = 0;
    journal.onPending(() => {
      calls += 1;
    });
    for (let index = 0; index < 1000; index += 1) settleOne(journal);
    assert.equal(calls, 2);
    journal.close();
  });
});

describe('a line of the journal', () => {
  const record = recordOf(newTenantId());
  const whole = `S ${record.request_id} ${JSON.stringify(record)}`;

  test('is read only where all of it is there and it is what it says', () => {
    assert.equal(decodeLine(Buffer.from(whole))?.type, 'S');
    assert.equal(decodeLine(Buffer.from(whole.slice(0, -1))), null);
    assert.equal(
      decodeLine(Buffer.from(whole.replace(record.request_id, recordOf(newTenantId()).request_id))),
      null,
    );
    assert.equal(decodeLine(Buffer.alloc(200)), null);
    assert.equal(decodeLine(Buffer.from('')), null);
    assert.deepEqual(decodeLine(Buffer.from('C 12 3456')), { type: 'C', segment: 12, offset: 3456 });
    assert.equal(decodeLine(Buffer.from('C 12 ')), null);
  });
});
