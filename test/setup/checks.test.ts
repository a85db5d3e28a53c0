import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { steps, type StepResult } from '../../scripts/checks/steps.ts';
import { findForbiddenWords, forbiddenWords } from '../../scripts/checks/words.ts';
import { rootFolder } from '../../scripts/testing/test-files.ts';

const fixtures = path.join(rootFolder, 'scripts/fixtures');
const folders: string[] = [];

after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A tree of its own with this repository's settings, its packages, and the fixture's files over them. */
function plant(...fixture: string[]): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'stoa-checks-'));
  folders.push(folder);
  for (const name of [
    '.oxlintrc.json',
    'biome.json',
    'knip.json',
    'tsconfig.json',
    'package.json',
    '.gitignore',
  ]) {
    cpSync(path.join(rootFolder, name), path.join(folder, name));
  }
  for (const name of ['contracts', 'server', 'sdk', 'cli']) {
    cpSync(path.join(rootFolder, name, 'package.json'), path.join(folder, name, 'package.json'));
  }
  symlinkSync(path.join(rootFolder, 'node_modules'), path.join(folder, 'node_modules'));
  for (const name of fixture) cpSync(path.join(fixtures, name), folder, { recursive: true });
  return folder;
}

async function check(name: string, folder: string): Promise<StepResult> {
  const step = steps.find((candidate) => candidate.name === name);
  assert.ok(step, `no step ${name}`);
  return step.run(folder);
}

/**
 * `file:line name` for every `// breaks name...` in the files of a planted tree, and for `// next line breaks` (a
 * comment that names the rule about comments is exempt from it).
 */
function plantedIn(folder: string, files: string[]): string[] {
  return files.flatMap((file) =>
    readFileSync(path.join(folder, file), 'utf8')
      .split('\n')
      .flatMap((text, index) => {
        const [, next, names] = /\/\/ (next line )?breaks (.+)$/.exec(text) ?? [];
        const line = index + (next === undefined ? 1 : 2);
        return (names?.split(' ') ?? []).map((name) => `${file}:${line} ${name}`);
      }),
  );
}

test('lint finds every planted fault at its line, and nothing else', async () => {
  const folder = plant('lint/broken');
  const { isGreen, report } = await check('lint', folder);
  assert.equal(isGreen, false);
  const found = [...report.matchAll(/^(.+?):(\d+):\d+: [\s\S]*?\[Error\/(.+?)\]$/gm)].map(
    ([, file = '', line = '', rule = '']) =>
      `${path.relative(folder, path.resolve(folder, file))}:${line} ${rule}`,
  );
  const gateway = 'server/src/services/gateway';
  const names = ['casts', 'promises', 'states', 'outside', 'chicken', 'egg', 'camelCase', 'later'];
  const planted = plantedIn(
    folder,
    names.map((name) => `${gateway}/${name}.ts`),
  );
  assert.deepEqual([...new Set(found)].sort(), planted.sort());
});

test('lint passes the twin that keeps the rules', async () => {
  const { isGreen, report } = await check('lint', plant('lint/clean'));
  assert.ok(isGreen, report);
});

test('lint refuses a file of 501 lines and a function of 61, and takes 500 and 60', async () => {
  const folder = plant();
  const lines = (count: number): string =>
    Array.from({ length: count }, (_, at) => `export const line${at} = ${at};`).join('\n');
  const body = (count: number): string => `export function long(): void {${'\n'.repeat(count - 1)}}\n`;
  writeFileSync(path.join(folder, 'server/long-file.ts'), `${lines(501)}\n`);
  writeFileSync(path.join(folder, 'server/long-function.ts'), body(61));
  const { report } = await check('lint', folder);
  assert.match(report, /long-file\.ts:.*max-lines\)/);
  assert.match(report, /long-function\.ts:.*max-lines-per-function\)/);
  writeFileSync(path.join(folder, 'server/long-file.ts'), `${lines(500)}\n`);
  writeFileSync(path.join(folder, 'server/long-function.ts'), body(60));
  const fitting = await check('lint', folder);
  assert.ok(fitting.isGreen, fitting.report);
});

test('the type check finds every planted fault at its line', async () => {
  const folder = plant('lint/types');
  const { isGreen, report } = await check('types', folder);
  assert.equal(isGreen, false);
  const found = [...report.matchAll(/^(.+?)\((\d+),\d+\): error (TS\d+)/gm)].map(
    ([, file = '', line = '', code = '']) => `${file}:${line} ${code}`,
  );
  const planted = plantedIn(folder, ['server/src/services/gateway/enumerated.ts']);
  assert.deepEqual([...new Set(found)].sort(), planted.sort());
});

test('Node and the type check both refuse an import behind the index.ts of a folder', async () => {
  const file = 'server/src/services/gateway/deep.ts';
  const folder = plant('boundaries/broken');
  const { stderr, status } = spawnSync(process.execPath, [path.join(folder, file)], { encoding: 'utf8' });
  assert.notEqual(status, 0);
  assert.match(stderr, /ERR_PACKAGE_IMPORT_NOT_DEFINED|ERR_PACKAGE_PATH_NOT_EXPORTED/);
  const { report } = await check('types', folder);
  assert.match(report, /gateway\/deep\.ts\(1,.*TS2307.*#tenants\/rules\.ts/);
  assert.match(report, /gateway\/deep\.ts\(2,.*TS2307.*@stoa\/contracts\/src\/index\.ts/);
});

test('the boundaries step is red on planted breaches and green on the clean twin', async () => {
  assert.equal((await check('boundaries', path.join(fixtures, 'boundaries/broken'))).isGreen, false);
  const clean = await check('boundaries', path.join(fixtures, 'boundaries/clean'));
  assert.ok(clean.isGreen, clean.report);
});

test('the format step is red on a file that is not formatted', async () => {
  const folder = plant();
  assert.equal((await check('format', folder)).isGreen, true);
  writeFileSync(path.join(folder, 'server/wide.ts'), 'export const wide = {a:1}\n');
  const { isGreen, report } = await check('format', folder);
  assert.equal(isGreen, false);
  assert.match(report, /server\/wide\.ts/);
});

test('the unused step names a file, an export and a package that nobody uses', async () => {
  const folder = plant('lint/clean');
  const manifest = readFileSync(path.join(folder, 'server/package.json'), 'utf8');
  const withUnused = manifest.replace('"dependencies": {', '"dependencies": {\n    "never-used": "1.0.0",');
  writeFileSync(path.join(folder, 'server/package.json'), withUnused);
  writeFileSync(path.join(folder, 'server/src/lonely.ts'), 'export const lonely = 1;\n');
  const main = "import { used } from './half-used.ts';\n\nconsole.log(used);\n";
  writeFileSync(path.join(folder, 'server/src/main.ts'), main);
  const halfUsed = 'export const used = 1;\nexport const notUsed = 2;\n';
  writeFileSync(path.join(folder, 'server/src/half-used.ts'), halfUsed);
  const { isGreen, report } = await check('unused', folder);
  assert.equal(isGreen, false);
  assert.match(report, /server\/src\/lonely\.ts/);
  assert.match(report, /^notUsed .*half-used\.ts/m);
  assert.match(report, /^never-used /m);
  assert.doesNotMatch(report, /^used /m);
});

test('the generated step is red where a file is missing or was changed by hand', async () => {
  const folder = plant();
  const missing = await check('generated', folder);
  assert.equal(missing.isGreen, false);
  assert.match(missing.report, /docs\/reference\/errors\.md/);
  cpSync(path.join(rootFolder, 'docs/reference'), path.join(folder, 'docs/reference'), { recursive: true });
  const page = path.join(folder, 'docs/reference/errors.md');
  writeFileSync(page, `${readFileSync(page, 'utf8')}\nadded by hand\n`);
  const changed = await check('generated', folder);
  assert.match(changed.report, /docs\/reference\/errors\.md/);
});

test('every kind of forbidden word is found in sources, documents and dotfiles', () => {
  const { breaches } = findForbiddenWords(path.join(fixtures, 'lint/words'));
  assert.deepEqual(
    breaches.map(({ file, line }) => `${file}:${line}`),
    [
      '.ci/run:1',
      'notes.md:3',
      'notes.md:4',
      'notes.md:5',
      ...[1, 2, 3, 4].map((line) => `src/a.test.ts:${line}`),
    ],
  );
  const reasons = new Set(breaches.map(({ reason }) => reason));
  assert.equal(reasons.size, forbiddenWords.length, 'each pattern has its plant');
});
