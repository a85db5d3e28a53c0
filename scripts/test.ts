/**
 * Runs the tests: `npm test [-- path ...]`, and with `--services` the integration suites against real servers.
 *
 * Pure tests share one process. Integration tests and journeys get a process each, two at a time, and whatever
 * they leave running is killed with them. The last line is `N passed, N failed[, N skipped]`.
 */
import { connect } from 'node:net';
import { once } from 'node:events';
import { countsLine, describeRun, sayInterrupted, sumOf } from './testing/report.ts';
import { requireNode } from './testing/require-node.ts';
import { endGroupsWithUs } from './testing/run-process.ts';
import { runTests, type TestRun } from './testing/run-tests.ts';
import { findTestFiles, rootFolder } from './testing/test-files.ts';

const pureDeadlineMs = 5 * 60_000;
/** The long version of the failure tests has twenty scenarios of STOA_FAILURE_SECONDS each, and as long again for what is around them. */
const separateDeadlineMs = 10 * 60_000 + 40_000 * Number(process.env['STOA_FAILURE_SECONDS'] ?? 0);
/** Settings of tests, which reach them; those of the platform do not. */
const testSettings = ['STOA_TEST_', 'STOA_FAILURE_'];
const concurrency = 2;
const defaultAdminUrl = 'postgres://root@127.0.0.1:5432/postgres';

/** The caller's environment without its own settings of the platform, which would leak into the tests. */
function testEnvironment(isAgainstServices: boolean): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('STOA_') || testSettings.some((prefix) => name.startsWith(prefix)),
  );
  const environment = Object.fromEntries(kept);
  if (!isAgainstServices) return environment;
  return {
    ...environment,
    STOA_TEST_SERVICES: '1',
    STOA_TEST_DATABASE_ADMIN_URL: environment['STOA_TEST_DATABASE_ADMIN_URL'] ?? defaultAdminUrl,
  };
}

/** Throws with what to do where PostgreSQL does not answer, before a hundred tests say so each in its own way. */
async function requireDatabase(adminUrl: string): Promise<void> {
  const { hostname, port } = new URL(adminUrl);
  const socket = connect({ host: hostname, port: Number(port || 5432) });
  try {
    await once(socket, 'connect');
  } catch (cause) {
    const advice = 'start it, or set STOA_TEST_DATABASE_ADMIN_URL';
    throw new Error(`PostgreSQL does not answer at ${hostname}:${port || '5432'}; ${advice}`, { cause });
  } finally {
    socket.destroy();
  }
}

function showTold(text: string): void {
  console.log(`         ${text}`);
}

/** Runs each file in a process of its own, adding to `runs` as they end. */
async function runSeparately(
  files: string[],
  environment: NodeJS.ProcessEnv,
  runs: TestRun[],
): Promise<void> {
  const waiting = [...files];
  const work = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const run = await runTests({
        root: rootFolder,
        files: [file],
        forceExit: false,
        environment,
        deadlineMs: separateDeadlineMs,
        onTold: showTold,
      });
      console.log(describeRun(run, rootFolder));
      runs.push(run);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
}

async function runPure(files: string[], environment: NodeJS.ProcessEnv): Promise<TestRun> {
  const run = await runTests({
    root: rootFolder,
    files,
    forceExit: true,
    environment,
    deadlineMs: pureDeadlineMs,
    onTold: showTold,
  });
  console.log(describeRun(run, rootFolder));
  return run;
}

/**
 * What nothing changes for beside servers, since it meets the embedded database itself or the platform through its API only;
 * `npm test` runs these.
 */
const embeddedSays = [
  '/pglite.integration.test.ts',
  '/cli.integration.test.ts',
  '/ai-sdk.integration.test.ts',
];

function meetsServices(file: string): boolean {
  return file.endsWith('.integration.test.ts') && !embeddedSays.some((end) => file.endsWith(end));
}

async function main(): Promise<void> {
  const runs: TestRun[] = [];
  endGroupsWithUs(() => sayInterrupted(runs));
  requireNode();
  const isAgainstServices = process.argv.includes('--services');
  const filters = process.argv.slice(2).filter((argument) => argument !== '--services');
  const environment = testEnvironment(isAgainstServices);
  const adminUrl = environment['STOA_TEST_DATABASE_ADMIN_URL'];
  if (isAgainstServices && adminUrl !== undefined) await requireDatabase(adminUrl);

  const pure = isAgainstServices ? [] : findTestFiles(rootFolder, 'pure', filters);
  const separate = findTestFiles(rootFolder, 'separate', filters).filter(
    (file) => !isAgainstServices || meetsServices(file),
  );
  if (pure.length + separate.length === 0)
    throw new Error(`no test file found for ${filters.join(' ') || 'all'}`);
  console.log(`${pure.length} pure test files, ${separate.length} with a process of their own`);
  if (pure.length > 0) runs.push(await runPure(pure, environment));
  await runSeparately(separate, environment, runs);
  const counts = sumOf(runs);
  for (const failure of runs.flatMap((run) => run.failures)) {
    console.log(`FAILED ${failure.name} (${failure.place})`);
  }
  console.log(countsLine(counts));
  process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1;
}

await main();
