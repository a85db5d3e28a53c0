import assert from 'node:assert/strict';
import { existsSync, lstatSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { until } from './processes.ts';
import { SmallProject } from './small-project.ts';

let project: SmallProject;
beforeEach(() => {
  project = new SmallProject();
});
afterEach(() => project.remove());

function kill(pid: number | undefined): void {
  assert.ok(pid !== undefined);
  process.kill(pid, 'SIGKILL');
}

test('a fresh clone is installed once, with a word about it; the next run is silent and quick', async (t) => {
  const first = await project.run('old');
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /nothing is installed yet; installing with "npm ci"/);
  assert.match(first.stderr, /installed in/);
  const durations: number[] = [];
  for (let run = 0; run < 10; run += 1) {
    const again = await project.run('old');
    assert.equal(again.code, 0);
    assert.equal(again.stderr, '');
    durations.push(again.durationMs);
  }
  assert.equal(project.installs, 1);
  const quickestMs = Math.min(...durations);
  t.diagnostic(`quickest of ten: ${quickestMs.toFixed(0)} ms`);
  assert.ok(quickestMs < 150, `${quickestMs} ms`);
});

test('a changed lock or dependency is installed; a changed script or description is not', async () => {
  await project.run('old');
  project.writePart('1.0.0', { scripts: { hello: 'true' }, description: 'new' });
  assert.equal((await project.run('old')).stderr, '');
  project.writePart('2.0.0');
  project.writeLock('2.0.0');
  const changed = await project.run('old');
  assert.match(changed.stderr, /the dependencies have changed/);
  assert.equal(project.installs, 2);
  assert.match(readFileSync(project.path('node_modules/one/package.json'), 'utf8'), /2\.0\.0/);
});

test('a package that has gone is installed again', async () => {
  await project.run('old');
  rmSync(project.path('node_modules/one'), { recursive: true });
  const outcome = await project.run('old');
  assert.match(outcome.stderr, /node_modules\/one is missing/);
  assert.equal(project.installs, 2);
  assert.ok(existsSync(project.path('node_modules/one/package.json')));
});

test('what a person installed by hand is taken as it is where it fits the lock, and only then', async () => {
  await project.run('old');
  rmSync(project.path('node_modules/.set-up-stamp.json'));
  assert.equal((await project.run('old')).stderr, '');
  assert.equal(project.installs, 1);
  rmSync(project.path('node_modules/.set-up-stamp.json'));
  project.writeLock('3.0.0');
  await project.run('old');
  assert.equal(project.installs, 2);
});

test('a failed installation is told with what to do and a code, and the next run tries again', async () => {
  project.say('fail');
  const failed = await project.run('old');
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /no registry here/);
  assert.match(failed.stderr, /"npm ci" failed with code 7.*registry.*tries again/s);
  project.unsay('fail');
  const again = await project.run('old');
  assert.equal(again.code, 0);
  assert.equal(project.installs, 2);
});

test('two set-ups at once install once, and the one that waits says for whom', async () => {
  project.say('hold');
  const first = project.start('old');
  await until(() => project.installs === 1, 'npm has begun');
  const second = project.start('old');
  const third = project.start('old');
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(project.installs, 1);
  project.unsay('hold');
  const outcomes = await Promise.all([first.outcome, second.outcome, third.outcome]);
  assert.deepEqual(
    outcomes.map(({ code }) => code),
    [0, 0, 0],
  );
  assert.equal(project.installs, 1);
  assert.match(outcomes[1]?.stderr ?? '', new RegExp(`another set-up \\(process ${first.child.pid ?? 0}\\)`));
});

test('a set-up that was killed with its npm holds nobody up', async () => {
  project.say('hold');
  const { child, outcome } = project.start('old');
  await until(() => project.installs === 1, 'npm has begun');
  assert.ok(child.pid !== undefined);
  process.kill(-child.pid, 'SIGKILL');
  await outcome;
  project.unsay('hold');
  const next = await project.run('old');
  assert.equal(next.code, 0);
  assert.match(next.stderr, /the last installation did not finish/);
  assert.equal(project.installs, 2);
});

test('where only set-up was killed, the next waits for the npm that lives on', async () => {
  project.say('hold');
  const { child } = project.start('old');
  await until(() => project.installs === 1, 'npm has begun');
  await until(
    () => /,\{"pid"/.test(readFileSync(project.path('.set-up-lock/1'), 'utf8')),
    'npm is on record',
  );
  kill(child.pid);
  const next = project.start('old');
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(project.installs, 1);
  project.unsay('hold');
  const { code } = await next.outcome;
  assert.equal(code, 0);
  assert.equal(project.installs, project.finishedInstalls);
});

test('many set-ups after a killed one take its place one at a time', async () => {
  project.say('hold');
  const { child, outcome } = project.start('old');
  await until(() => project.installs === 1, 'npm has begun');
  assert.ok(child.pid !== undefined);
  process.kill(-child.pid, 'SIGKILL');
  await outcome;
  project.unsay('hold');
  const outcomes = await Promise.all(Array.from({ length: 6 }, () => project.run('old')));
  assert.ok(outcomes.every(({ code }) => code === 0));
  assert.equal(project.installs, 2, 'one for the killed one, one for all the others');
});

test('a newer Node of the shell is left in its place, and an older one gets the bundled one back', async () => {
  const link = project.path('node_modules/.bin/node');
  await project.run('old');
  assert.match(readlinkSync(link), /^\.\.\/node-.*\/bin\/node$/);
  const newer = await project.run('new');
  assert.match(newer.stderr, /using this shell's own Node v26\.1\.0/);
  assert.equal(lstatSync(link, { throwIfNoEntry: false }), undefined);
  assert.equal((await project.run('new')).stderr, '');
  const older = await project.run('old');
  assert.match(older.stderr, /using the bundled Node, since this shell has v20\.20\.2/);
  assert.ok(existsSync(link));
  assert.equal(project.installs, 1, 'nothing is downloaded for that');
});

test('an old Node without a bundled one for the platform is told what to install', async (t) => {
  const without = new SmallProject({ hasBundledNode: false });
  t.after(() => without.remove());
  const old = await without.run('old');
  assert.equal(old.code, 1);
  assert.match(
    old.stderr,
    /Node 24\.12\.0 or newer is needed, this shell has v20\.20\.2.*Install a newer Node/s,
  );
  assert.equal(without.installs, 0);
  assert.equal((await without.run('new')).code, 0);
});

test('an optional package that npm left out is an error on an old Node, and tried again', async () => {
  project.say('omit-optional');
  const left = await project.run('old');
  assert.equal(left.code, 1);
  assert.match(left.stderr, /npm left the optional package node-.* out/);
  project.unsay('omit-optional');
  assert.equal((await project.run('old')).code, 0);
});

test('a bundled Node that does not run here is an error on an old Node', async () => {
  writeFileSync(project.path('bundled-node'), '#!/bin/sh\nexit 127\n');
  const outcome = await project.run('old');
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /Node 24\.12\.0 or newer is needed/);
});
