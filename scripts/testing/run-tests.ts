/**
 * Runs test files in one process of node's test runner and says what came of them.
 *
 * Two sources must agree before a run counts as passed: what the tests reported, and what their sources promise
 * (promised-tests.ts). node alone exits with 0 when a test calls `process.exit(0)` half way.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisedTests } from './promised-tests.ts';
import { type OutcomeRecord, readRecords } from './records.ts';
import { type ProcessResult, runNode } from './run-process.ts';

export interface TestRunOptions {
  root: string;
  /** Absolute paths; all of them share one process. */
  files: string[];
  /** Ends the process when the tests have ended, whatever is still open. For pure tests that share a process. */
  forceExit: boolean;
  environment: NodeJS.ProcessEnv;
  deadlineMs: number;
  /** Called with what tests say to whoever runs them, while they run: their lines that begin with `toldPrefix`. */
  onTold?: (text: string) => void;
}

export interface TestFailure {
  /** The test's name, or what is wrong with the run. */
  name: string;
  place: string;
  message: string;
}

export interface TestRun {
  files: string[];
  passed: number;
  skipped: { name: string; reason: string }[];
  failures: TestFailure[];
  output: string;
  durationMs: number;
}

/** A test's line of output that begins so is shown also where the test passes: its seed, its figures. */
const toldPrefix = 'told: ';

/** One test may take this long where it names no timeout of its own. */
const testTimeoutMs = 180_000;

const entry = path.join(import.meta.dirname, 'entry.ts');
const recorder = new URL('recorder.ts', import.meta.url).href;

/** Runs the files and returns the outcome; a run that could not be carried out is one with failures. */
export async function runTests(options: TestRunOptions): Promise<TestRun> {
  const folder = mkdtempSync(path.join(tmpdir(), 'stoa-tests-'));
  const recordFile = path.join(folder, 'records.ndjson');
  try {
    const result = await runNode({
      args: [
        ...(options.forceExit ? ['--test-force-exit'] : []),
        `--test-timeout=${testTimeoutMs}`,
        `--test-reporter=${recorder}`,
        '--test-reporter-destination=stdout',
        entry,
        ...options.files,
      ],
      environment: { ...options.environment, STOA_TEST_RECORD: recordFile },
      cwd: options.root,
      deadlineMs: options.deadlineMs,
      onLine(line) {
        if (line.startsWith(toldPrefix)) options.onTold?.(line.slice(toldPrefix.length));
      },
    });
    return judge(options, result, recordFile);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function judge(
  { root, files, deadlineMs }: TestRunOptions,
  result: ProcessResult,
  recordFile: string,
): TestRun {
  const records = readRecords(recordFile);
  const outcomes = records.filter((record) => record.kind !== 'end');
  const tests = outcomes.filter((record) => record.kind === 'test');
  const failures = [
    ...outcomes.flatMap((record) => failureOf(record, root)),
    ...brokenPromises(files, outcomes, root),
  ];
  if (result.timedOut) {
    failures.push({
      name: 'deadline',
      place: '',
      message: `not finished after ${deadlineMs / 1000} s; killed`,
    });
  } else if (!records.some((record) => record.kind === 'end') && !failures.some(isLeak)) {
    const message = `the process ended (code ${result.exitCode ?? 'none'}) before its tests did`;
    failures.push({ name: 'unfinished run', place: '', message });
  } else if (result.exitCode !== 0 && failures.length === 0) {
    const message = `exit code ${result.exitCode ?? 'none'} although no test failed`;
    failures.push({ name: 'exit code', place: '', message });
  }
  return {
    files,
    passed: tests.filter((record) => record.outcome === 'passed').length,
    skipped: outcomes
      .filter((record) => record.outcome === 'skipped')
      .map(({ name, reason }) => ({ name, reason: reason ?? 'no reason given' })),
    failures,
    output: result.output,
    durationMs: result.durationMs,
  };
}

function isLeak(failure: TestFailure): boolean {
  return failure.name === 'leak';
}

/** A suite fails with its tests, which are counted already; it counts itself only for a fault of its own. */
function failureOf(record: OutcomeRecord, root: string): TestFailure[] {
  const place = record.file === '' ? '' : `${path.relative(root, record.file)}:${record.line}`;
  if (record.outcome === 'failed') {
    const { kind, message } = record.failure ?? { kind: 'unknown', message: 'failed without a reason' };
    if (record.kind === 'suite' && kind === 'subtestsFailed') return [];
    return [{ name: record.name, place, message }];
  }
  return [];
}

/** Tests that the sources promise and nobody reported. A file that could not be loaded has failed already. */
function brokenPromises(files: string[], outcomes: OutcomeRecord[], root: string): TestFailure[] {
  const seen = new Set(outcomes.map(({ file, line }) => `${file}:${line}`));
  const unloaded = outcomes.filter(({ kind, outcome }) => kind === 'file' && outcome === 'failed');
  const failed = new Set(unloaded.map(({ file }) => file));
  return files
    .filter((file) => !failed.has(file))
    .flatMap(promisedTests)
    .filter(({ file, line }) => !seen.has(`${file}:${line}`))
    .map(({ file, line }) => ({
      name: 'missing test',
      place: `${path.relative(root, file)}:${line}`,
      message: 'the source promises a test here, but none was reported',
    }));
}
