/**
 * `npm run test:conformance`: runs `*.conformance.test.ts` over outside test vectors in the folder that
 * STOA_CONFORMANCE_DATA names. Without the folder it fails, unless STOA_CONFORMANCE=skip says so aloud.
 *
 * Every such test prints `conformance: <set> <n> cases` for each set that it went through. The sums are shown here,
 * and a file that went through no case fails: vectors that were not found must not look like vectors that hold.
 */
import { statSync } from 'node:fs';
import path from 'node:path';
import { countsLine, describeRun, sayInterrupted, sumOf } from './testing/report.ts';
import { requireNode } from './testing/require-node.ts';
import { endGroupsWithUs } from './testing/run-process.ts';
import { runTests, type TestRun } from './testing/run-tests.ts';
import { findTestFiles, rootFolder } from './testing/test-files.ts';

const deadlineMs = 10 * 60_000;

/** The folder with the vectors as an absolute path; throws with what to do where it is not there. */
function dataFolder(): string {
  const named = process.env['STOA_CONFORMANCE_DATA'];
  const advice = 'or set STOA_CONFORMANCE=skip to go without';
  if (named === undefined || named === '') {
    throw new Error(`set STOA_CONFORMANCE_DATA to the folder with the test vectors, ${advice}`);
  }
  const folder = path.resolve(named);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new Error(`STOA_CONFORMANCE_DATA names ${folder}, which is not a folder; correct it, ${advice}`);
  }
  return folder;
}

/** Cases per set, from the lines that the tests printed. */
function countCases(output: string): Map<string, number> {
  const cases = new Map<string, number>();
  for (const [, set = '', count = '0'] of output.matchAll(/^conformance: (.+) (\d+) cases$/gm)) {
    cases.set(set, (cases.get(set) ?? 0) + Number(count));
  }
  return cases;
}

/** Adds a failure to a run whose sets hold no case. */
function requireCases(run: TestRun): TestRun {
  const cases = countCases(run.output);
  const empty = [...cases].filter(([, count]) => count === 0).map(([set]) => set);
  if (cases.size > 0 && empty.length === 0) return run;
  const message = cases.size === 0 ? 'no set was named' : `no case in ${empty.join(', ')}`;
  return { ...run, failures: [...run.failures, { name: 'cases of the sets', place: '', message }] };
}

async function main(): Promise<void> {
  const runs: TestRun[] = [];
  endGroupsWithUs(() => sayInterrupted(runs));
  requireNode();
  if (process.env['STOA_CONFORMANCE'] === 'skip') {
    console.log('conformance: SKIPPED, because STOA_CONFORMANCE=skip');
    console.log(countsLine(sumOf([])));
    return;
  }
  const environment = { ...process.env, STOA_CONFORMANCE_DATA: dataFolder() };
  const files = findTestFiles(rootFolder, 'conformance', process.argv.slice(2));
  if (files.length === 0) throw new Error('no *.conformance.test.ts was found');
  for (const file of files) {
    const options = { root: rootFolder, files: [file], forceExit: false, environment, deadlineMs };
    const run = requireCases(await runTests(options));
    console.log(describeRun(run, rootFolder));
    for (const [set, count] of countCases(run.output)) console.log(`       ${set}: ${count} cases`);
    runs.push(run);
  }
  const counts = sumOf(runs);
  console.log(countsLine(counts));
  process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
}

await main();
