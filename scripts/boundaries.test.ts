import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { rules } from './boundaries/rules.ts';
import { boundedFiles, findBreaches } from './boundaries.ts';

const fixtures = path.join(import.meta.dirname, 'fixtures/boundaries');

/** `file:line rule` for every `// breaks rule...` that was planted. */
function plantedIn(root: string): string[] {
  return boundedFiles(root).flatMap((file) =>
    readFileSync(path.join(root, file), 'utf8')
      .split('\n')
      .flatMap((line, index) => {
        const planted = /\/\/ breaks (.+)$/.exec(line)?.[1] ?? '';
        return planted === '' ? [] : planted.split(' ').map((rule) => `${file}:${index + 1} ${rule}`);
      }),
  );
}

test('every planted breach of the boundaries is found, at its line, and nothing else is', () => {
  const root = path.join(fixtures, 'broken');
  const found = findBreaches(root).map(({ file, line, rule }) => `${file}:${line} ${rule.id}`);
  assert.deepEqual(found.sort(), plantedIn(root).sort());
});

test('every rule of the table has a planted breach', () => {
  const planted = plantedIn(path.join(fixtures, 'broken')).map((entry) => entry.split(' ')[1]);
  assert.deepEqual(
    rules.map(({ id }) => id).filter((id) => !planted.includes(id)),
    [],
  );
});

test('the twin that keeps the rules passes all of them', () => {
  assert.deepEqual(findBreaches(path.join(fixtures, 'clean')), []);
});

test('every #name of the server is closed behind its index.ts, as in the fixture', () => {
  const readImports = (file: string): Record<string, unknown> => {
    const manifest: unknown = JSON.parse(readFileSync(file, 'utf8'));
    assert.ok(typeof manifest === 'object' && manifest !== null && 'imports' in manifest);
    const { imports } = manifest;
    assert.ok(typeof imports === 'object' && imports !== null);
    return Object.fromEntries(Object.entries(imports));
  };
  const real = readImports(path.join(import.meta.dirname, '../server/package.json'));
  const fixture = readImports(path.join(fixtures, 'broken/server/package.json'));
  for (const name of Object.keys(real).filter((key) => !key.endsWith('/*'))) {
    assert.equal(real[`${name}/*`], null, `${name}/* must be null`);
    assert.match(String(real[name]), /\/index\.ts$/);
  }
  for (const [name, target] of Object.entries(fixture)) assert.equal(real[name], target);
});
