/**
 * `npm run check [-- step ...]`: types, lint, format, boundaries, generated files, unused code, forbidden words. All
 * steps run whatever fails; exits with 1 if one did. In a terminal, a red step's report is cut at 60 lines unless
 * it was asked for by name.
 */
import path from 'node:path';
import { type Step, steps } from './checks/steps.ts';
import { requireNode } from './testing/require-node.ts';

const root = path.resolve(import.meta.dirname, '..');
const concurrency = 2;
const shownLines = 60;

function shorten(report: string, isWhole: boolean): string {
  const lines = report.split('\n');
  if (isWhole || lines.length <= shownLines) return report;
  return [...lines.slice(0, shownLines), `[${lines.length - shownLines} more lines]`].join('\n');
}

/** Runs one step and prints its line, and its report where it is red. */
async function runStep({ name, run }: Step, isWhole: boolean): Promise<boolean> {
  const started = performance.now();
  const { isGreen, report } = await run(root).catch((error: unknown) => ({
    isGreen: false,
    report: error instanceof Error ? (error.stack ?? error.message) : String(error),
  }));
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
  console.log(
    `${isGreen ? 'ok  ' : 'FAIL'} ${name.padEnd(11)} ${seconds} s${isGreen ? '' : `\n${shorten(report, isWhole)}\n`}`,
  );
  return isGreen;
}

async function main(): Promise<void> {
  requireNode();
  const names = process.argv.slice(2);
  const unknown = names.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) {
    throw new Error(`no step ${unknown.join(', ')}; there are ${steps.map(({ name }) => name).join(', ')}`);
  }
  const waiting = steps.filter(({ name }) => names.length === 0 || names.includes(name));
  const total = waiting.length;
  const isWhole = names.length > 0 || process.env['CI'] !== undefined;
  let green = 0;
  const work = async (): Promise<void> => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      if (await runStep(step, isWhole)) green += 1;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  console.log(green === total ? `all ${total} checks passed` : `${total - green} of ${total} checks failed`);
  process.exitCode = green === total ? 0 : 1;
}

await main();
