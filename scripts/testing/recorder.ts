/**
 * Reporter for node's test runner that prints nothing and writes every outcome as one line of JSON into the file named
 * by STOA_TEST_RECORD. Each line is written at once, so what a test did before its process ended early is on
 * record, and so is the absence of the closing line.
 *
 * A process that stays alive with nothing left to run is ended here after `idleLimitMs`, with a record that
 * names what keeps it: a test that does not stop what it started is a failure, not a run without end.
 */
import { appendFileSync } from 'node:fs';
import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';
import { markerPrefix, type OutcomeRecord, type TestRecord } from './records.ts';

const idleLimitMs = Number(process.env['STOA_TEST_IDLE_LIMIT_MS'] ?? 15_000);

type Outcome = Extract<TestEvent, { type: 'test:pass' | 'test:fail' }>;

/** Why a test failed as node wraps it: its own kind of failure, and what the test threw. */
function describeFailure(error: Error): { kind: string; message: string } {
  const kind = 'failureType' in error ? String(error.failureType) : 'testCodeFailure';
  const thrown = error.cause ?? error;
  const message = typeof thrown === 'string' ? thrown : inspect(thrown, { depth: 6, breakLength: 110 });
  return { kind, message: message.slice(0, 8_000) };
}

/** The file that a marker test stands for, or undefined for any other test. */
function markedFile(name: string): string | undefined {
  return name.startsWith(markerPrefix) ? name.slice(markerPrefix.length) : undefined;
}

function toRecord(event: Outcome, path: string[]): OutcomeRecord {
  const { file, line, details, skip, todo, name } = event.data;
  const isSkipped = [skip, todo].some((reason) => reason !== undefined && reason !== false);
  const reason = [skip, todo].find((value) => typeof value === 'string');
  const marked = markedFile(name);
  return {
    kind: marked !== undefined ? 'file' : details.type === 'suite' ? 'suite' : 'test',
    name: marked === undefined ? path.join(' > ') : 'loading',
    file: marked ?? file ?? '',
    line: marked === undefined ? (line ?? 0) : 1,
    durationMs: details.duration_ms,
    outcome: isSkipped ? 'skipped' : event.type === 'test:pass' ? 'passed' : 'failed',
    ...(reason === undefined ? {} : { reason }),
    ...(event.type === 'test:fail' ? { failure: describeFailure(event.data.details.error) } : {}),
  };
}

/** Ends the process when `isIdle` has held for `idleLimitMs` and something still keeps it alive. */
function watchForLeaks(isIdle: () => boolean, write: (record: TestRecord) => void): () => void {
  let timer: NodeJS.Timeout | undefined;
  return () => {
    clearTimeout(timer);
    if (!isIdle()) return;
    timer = setTimeout(() => {
      const resources = process.getActiveResourcesInfo().filter((name) => name !== 'Timeout');
      const message = `all tests have ended, but the process goes on: ${resources.join(', ') || 'timers'}`;
      const failure = { kind: 'leak', message };
      write({ kind: 'file', name: 'leak', file: '', line: 0, durationMs: 0, outcome: 'failed', failure });
      process.exit(1);
    }, idleLimitMs);
    timer.unref();
  };
}

/** Files whose marker came with no test before it since the last marker. */
function findEmptyFiles(): { enqueued: (name: string, nesting: number) => void; empty: Set<string> } {
  const empty = new Set<string>();
  let sinceMarker = 0;
  const enqueued = (name: string, nesting: number): void => {
    if (nesting > 0) return;
    const file = markedFile(name);
    if (file === undefined) {
      sinceMarker += 1;
      return;
    }
    if (sinceMarker === 0) empty.add(file);
    sinceMarker = 0;
  };
  return { enqueued, empty };
}

async function* record(events: AsyncIterable<TestEvent>): AsyncGenerator<never, void> {
  const target = process.env['STOA_TEST_RECORD'];
  if (target === undefined) throw new Error('STOA_TEST_RECORD must name the file to write to');
  const write = (entry: TestRecord): void => appendFileSync(target, `${JSON.stringify(entry)}\n`);
  const open = new Set<number>();
  const names = new Map<number, string[]>();
  const { enqueued, empty } = findEmptyFiles();
  let hasRun = false;
  const check = watchForLeaks(() => hasRun && open.size === 0, write);
  for await (const event of events) {
    if (event.type === 'test:enqueue') {
      const { testId, parentId, name, nesting } = event.data;
      open.add(testId);
      names.set(testId, [...(names.get(parentId ?? 0) ?? []), name]);
      enqueued(name, nesting);
    } else if (event.type === 'test:complete') {
      open.delete(event.data.testId);
      hasRun = true;
      check();
    } else if (event.type === 'test:pass' || event.type === 'test:fail') {
      const entry = toRecord(event, names.get(event.data.testId) ?? [event.data.name]);
      const isEmpty = entry.kind === 'file' && empty.has(entry.file) && entry.outcome === 'passed';
      const failure = { kind: 'empty', message: 'this file holds no test' };
      write(isEmpty ? { ...entry, outcome: 'failed', failure } : entry);
    } else if (event.type === 'test:summary') {
      write({ kind: 'end', success: event.data.success });
    }
  }
}

export { record as default };
