import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, test, type TestContext } from 'node:test';
import { rootFolder } from '../../scripts/testing/test-files.ts';
import { HeldUpstream } from './held-upstream.ts';
import { isRunning, until } from './processes.ts';
import { StartedStoa, statusOf } from './started-stoa.ts';
import { isOld, programOf, shellEnvironment, shellNode, Tree } from './tree.ts';

const shell = shellNode();
const isLinux = process.platform === 'linux';
let tree: Tree | undefined;
after(() => tree?.remove());

/** One copy for all tests of this file: they start one after the other. */
function clone(): Tree {
  tree ??= new Tree();
  return tree;
}

function startStoa(t: TestContext, folder: string, environment: NodeJS.ProcessEnv): StartedStoa {
  const stoa = new StartedStoa(folder, environment);
  t.after(() => stoa.remove());
  return stoa;
}

/** Gathers a body as it arrives. */
function readingText({ body }: Response): { text: () => string; done: Promise<void> } {
  assert.ok(body);
  const chunks: AsyncIterable<string> = body.pipeThrough(new TextDecoderStream());
  let received = '';
  const read = async (): Promise<void> => {
    for await (const chunk of chunks) received += chunk;
  };
  return { text: () => received, done: read() };
}

const skipOld = !shell
  ? 'this shell has no Node of its own'
  : !isOld(shell.version)
    ? `this shell has Node ${shell.version}, which is new enough by itself`
    : isLinux
      ? false
      : 'bundled Nodes are for Linux';

test('a clone on an old Node runs the server on the bundled one', { skip: skipOld }, async (t) => {
  assert.ok(shell);
  const { folder } = clone();
  const stoa = startStoa(t, folder, shellEnvironment([path.dirname(shell.file)], {}));
  await stoa.ready();
  const bundled = realpathSync(path.join(folder, `node_modules/node-linux-${process.arch}/bin/node`));
  assert.equal(programOf(stoa.serverPid), bundled);
  const { stdout } = spawnSync(bundled, ['--version'], { encoding: 'utf8' });
  assert.ok(!isOld(stdout.trim().replace('v', '')), stdout);
  assert.ok(isOld(shell.version));
});

test('a newer Node of the shell is used as it is', { skip: isLinux ? false : 'needs /proc' }, () => {
  const { folder } = clone();
  // The Node that runs this test stands for the shell's: it lies outside the clone.
  const shellFolder = path.join(folder, '../newer shell');
  mkdirSync(shellFolder);
  symlinkSync(process.execPath, path.join(shellFolder, 'node'));
  const manifest = path.join(folder, 'package.json');
  const before = readFileSync(manifest, 'utf8');
  const probe = '"preprobe": "exec node scripts/set-up.mjs",\n    "probe": "exec node -p process.execPath",';
  writeFileSync(manifest, before.replace('"scripts": {', `"scripts": {\n    ${probe}`));
  const environment = shellEnvironment([shellFolder], {});
  const { stdout, stderr, status } = spawnSync('npm', ['run', '--silent', 'probe'], {
    cwd: folder,
    env: environment,
    encoding: 'utf8',
  });
  writeFileSync(manifest, before);
  assert.equal(status, 0, stderr);
  assert.equal(realpathSync(stdout.trim()), realpathSync(process.execPath));
  assert.doesNotMatch(stderr, /npm ci/, 'nothing was installed for that');
});

test('SIGTERM to npm drains the server: what runs is finished, then all processes end', {
  skip: isLinux ? false : 'needs /proc',
}, async (t) => {
  const upstream = new HeldUpstream();
  const upstreamUrl = await upstream.listen();
  t.after(() => upstream.close());
  const stoa = startStoa(t, rootFolder, shellEnvironment([], { STOA_OPENAI_BASE_URL: upstreamUrl }));
  const { baseUrl, demo } = await stoa.ready();
  const { npmPid, serverPid } = stoa;

  const answer = await fetch(`${baseUrl}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${demo.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'held', stream: true, messages: [{ role: 'user', content: 'wait' }] }),
  });
  assert.equal(answer.status, 200);
  const reading = readingText(answer);
  await until(() => reading.text().includes('first'), 'the first word has come');

  process.kill(npmPid, 'SIGTERM');
  await until(async () => (await statusOf(`${baseUrl}/readyz`)) !== 200, 'the server is not ready any more');
  assert.ok(isRunning(serverPid), 'the server waits for its stream');
  upstream.release();
  await reading.done;
  assert.match(reading.text(), /last[\s\S]*data: \[DONE\]/);
  await stoa.ended;
  await until(() => !isRunning(serverPid), 'the server has ended', 15_000);
});
