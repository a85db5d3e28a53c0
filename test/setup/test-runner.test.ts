import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { countsLine, describeRun, sumOf } from '../../scripts/testing/report.ts';
import { runTests, type TestRun } from '../../scripts/testing/run-tests.ts';
import { findTestFiles, rootFolder } from '../../scripts/testing/test-files.ts';
import { isRunning, until } from './processes.ts';

const fixtures = path.join(rootFolder, 'scripts/fixtures/testing');

function run(
  files: string[],
  options: { forceExit?: boolean; deadlineMs?: number; onTold?: (text: string) => void } = {},
): Promise<TestRun> {
  return runTests({
    root: rootFolder,
    files: files.map((file) => path.join(fixtures, `${file}.test.ts`)),
    forceExit: options.forceExit ?? false,
    environment: { ...process.env, STOA_TEST_IDLE_LIMIT_MS: '500' },
    deadlineMs: options.deadlineMs ?? 60_000,
    ...(options.onTold ? { onTold: options.onTold } : {}),
  });
}

function failuresOf({ failures }: TestRun): string[] {
  return failures.map(
    ({ name, place, message }) => `${name} @ ${path.basename(place)}: ${message.split('\n')[0] ?? ''}`,
  );
}

test('tests, inner tests and rows of a table are counted; suites are not, skipped ones apart with their reason', async () => {
  const sound = await run(['sound']);
  assert.deepEqual(failuresOf(sound), []);
  assert.equal(sound.passed, 4);
  assert.deepEqual(sound.skipped, [
    { name: 'group > is not here', reason: 'no such server' },
    { name: 'elsewhere', reason: 'another machine' },
  ]);
  assert.equal(countsLine(sumOf([sound])), '4 passed, 0 failed, 2 skipped');
});

test('each failing test is one failure with its place and cause, its suite none', async () => {
  const fails = await run(['fails']);
  assert.deepEqual(failuresOf(fails), [
    'sums are right @ fails.test.ts:4: AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:',
    'group > throws @ fails.test.ts:7: Error: planted',
  ]);
  assert.match(describeRun(fails, rootFolder), /2 !== 3/);
});

test('what a test tells is handed on while it runs, also where it passes', async () => {
  const told: string[] = [];
  const tells = await run(['tells'], { onTold: (text) => told.push(text) });
  assert.deepEqual(failuresOf(tells), []);
  assert.deepEqual(told, ['seed 7', '  12 sent']);
});

test('a hook that throws is a failure though all tests passed', async () => {
  const hook = await run(['hook']);
  assert.deepEqual(failuresOf(hook), ['group @ hook.test.ts:3: Error: planted in a hook']);
});

test('a file that takes long to load is waited for, though the tests before it have ended', async () => {
  const both = await run(['sound', 'slow-load'], { forceExit: true });
  assert.deepEqual(failuresOf(both), []);
  assert.equal(both.passed, 5);
});

test('a file without a test is a failure, alone and among others', async () => {
  assert.deepEqual(failuresOf(await run(['empty'])), ['loading @ empty.test.ts:1: this file holds no test']);
  const group = await run(['sound', 'empty'], { forceExit: true });
  assert.deepEqual(failuresOf(group), ['loading @ empty.test.ts:1: this file holds no test']);
  assert.equal(group.passed, 4);
});

test('a file that throws while it is loaded is a failure, also after its first test', async () => {
  const loaded = await run(['load-error', 'sound'], { forceExit: true });
  assert.equal(loaded.failures.length, 1);
  assert.match(loaded.failures[0]?.message ?? '', /could not be loaded[\s\S]*planted at load/);
});

test('a process that ends with code 0 before its tests do is a failure that names the missing ones', async () => {
  const early = await run(['exits-early']);
  assert.deepEqual(failuresOf(early), [
    'missing test @ exits-early.test.ts:3: the source promises a test here, but none was reported',
    'missing test @ exits-early.test.ts:8: the source promises a test here, but none was reported',
    'unfinished run @ : the process ended (code 0) before its tests did',
  ]);
});

test('a table of cases that came out empty is a failure', async () => {
  const table = await run(['empty-table']);
  assert.equal(table.passed, 1);
  assert.deepEqual(failuresOf(table), [
    'missing test @ empty-table.test.ts:5: the source promises a test here, but none was reported',
  ]);
});

test('a process that its tests keep alive is ended, and what keeps it is named', async () => {
  const leak = await run(['leaks']);
  assert.equal(leak.failures.length, 1);
  assert.match(
    leak.failures[0]?.message ?? '',
    /all tests have ended, but the process goes on: .*TCPServerWrap/,
  );
});

test('a run past its deadline is killed and fails', async () => {
  const late = await run(['never-ends'], { deadlineMs: 1_500 });
  assert.ok(failuresOf(late).some((failure) => failure.startsWith('deadline @ : not finished after 1.5 s')));
});

test('what a test left running in its process group is killed with it', async () => {
  const orphan = await run(['orphan']);
  assert.deepEqual(failuresOf(orphan), []);
  const pid = Number(/orphan pid (\d+)/.exec(orphan.output)?.[1]);
  assert.ok(pid > 0, orphan.output);
  await until(() => !isRunning(pid), 'the orphan has ended');
});

test('files are told apart by name and place, and fixtures are no tests', () => {
  const pure = findTestFiles(rootFolder, 'pure');
  const separate = findTestFiles(rootFolder, 'separate');
  assert.ok(pure.includes(path.join(rootFolder, 'scripts/boundaries.test.ts')));
  assert.ok(separate.includes(import.meta.filename));
  assert.ok(![...pure, ...separate].some((file) => file.includes('fixtures')));
  assert.deepEqual(findTestFiles(rootFolder, 'separate', ['test/setup/test-runner']), [import.meta.filename]);
});
