import path from 'node:path';
import type { TestRun } from './run-tests.ts';

/** Sums over runs; `failed` counts faults of a run itself too. */
export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

export function sumOf(runs: TestRun[]): Counts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const run of runs) {
    counts.passed += run.passed;
    counts.failed += run.failures.length;
    counts.skipped += run.skipped.length;
  }
  return counts;
}

/** The last line of every test command, which scripts around it read. */
export function countsLine({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
}

/** What to write when a run is cut short: the counts of what has ended, and one failure for what has not. */
export function sayInterrupted(runs: TestRun[]): void {
  const counts = sumOf(runs);
  console.log('interrupted');
  console.log(countsLine({ ...counts, failed: counts.failed + 1 }));
}

/** One line for a run that passed; the failures and all output of one that did not. */
export function describeRun(run: TestRun, root: string): string {
  const [first] = run.files;
  const name = run.files.length === 1 && first ? path.relative(root, first) : `${run.files.length} files`;
  const seconds = (run.durationMs / 1000).toFixed(1).padStart(6);
  const mark = run.failures.length === 0 ? 'ok  ' : 'FAIL';
  const lines = [`${mark} ${String(run.passed).padStart(5)} passed ${seconds} s  ${name}`];
  for (const { name: test, reason } of run.skipped) lines.push(`       skipped: ${test} (${reason})`);
  for (const failure of run.failures) {
    lines.push('', `  FAILED ${failure.name}`, `  at ${failure.place || name}`, indent(failure.message));
  }
  if (run.failures.length > 0) {
    if (run.output.trim() !== '') lines.push('', '  output:', indent(run.output.trim()));
    lines.push('');
  }
  return lines.join('\n');
}

function indent(text: string): string {
  return text.replace(/^/gm, '    ');
}
