import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '../../../..');

test('every service API is run through callsContract by a test, in all its modes', () => {
  const files = globSync(['contracts/src/**/*.ts', 'server/src/**/*.ts'], { cwd: root });
  const texts = files.map((file) => ({ file, text: readFileSync(path.join(root, file), 'utf8') }));
  const declared = texts.flatMap(({ text }) =>
    [...text.matchAll(/export const (\w+)(?::[^=]+)? = defineServiceApi\(/g)].map(([, name = '']) => name),
  );
  const tests = texts.filter(({ file }) => file.endsWith('.test.ts'));
  const isRun = (name: string): boolean =>
    tests.some(({ text }) => text.includes(`callsContract(${name}, {`));
  assert.ok(declared.includes('fixtureApi'), 'the search finds nothing any more');
  assert.deepEqual(
    declared.filter((name) => !isRun(name)),
    [],
  );
});
