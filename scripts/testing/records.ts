import { existsSync, readFileSync } from 'node:fs';

/** Begins the name of the marker test that stands behind each file; the file's absolute path follows. */
export const markerPrefix = 'file loaded: ';

/** What the recorder writes: one per test, suite and file, and `end` when the run came to its end. */
export type TestRecord = OutcomeRecord | { kind: 'end'; success: boolean };

export interface OutcomeRecord {
  kind: 'test' | 'suite' | 'file';
  /** Names from the outermost suite inwards, joined by ` > `. */
  name: string;
  /** Absolute path of the file that holds the call; empty where node does not say. */
  file: string;
  line: number;
  durationMs: number;
  outcome: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped, where the test says so. */
  reason?: string;
  /** `kind` is node's `failureType`, or `leak`. */
  failure?: { kind: string; message: string };
}

function isRecord(value: unknown): value is TestRecord {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false;
  if (value.kind === 'end') return 'success' in value;
  return 'outcome' in value && 'name' in value && 'file' in value && 'line' in value;
}

/** Reads what one process recorded. A file that was never made, and a line cut by a kill, count as nothing. */
export function readRecords(file: string): TestRecord[] {
  if (!existsSync(file)) return [];
  const records: TestRecord[] = [];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (!line.endsWith('}')) continue;
    const value: unknown = JSON.parse(line);
    if (!isRecord(value)) throw new Error(`not a test record: ${line}`);
    records.push(value);
  }
  return records;
}
