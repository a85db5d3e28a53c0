/** What docs/security promises to be proven by a test is: the test is there, under its name. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..');
const page = (name: string): string => readFileSync(path.join(root, 'docs/security', name), 'utf8');

/** The failures that must have a test, whatever else is listed. */
const failures = [
  'a tautology as a bearer token',
  "a key's plaintext in logs",
  'a client-given base URL that steals provider keys',
  'a 401 body with a table name',
  'a database outage that turns valid keys into 401',
  'limits that multiply by the number of processes',
];

test('each known failure of others has a test, which is there by its name', () => {
  const lines = [...page('README.md').matchAll(/^\| (.*) \| `([^`]+\.test\.ts)`: "(.+)" \|$/gm)];
  const listed = lines.map(([, failure]) => failure);
  for (const failure of failures) assert.ok(listed.includes(failure), failure);
  for (const [, failure = '', file = '', name = ''] of lines) {
    assert.ok(existsSync(path.join(root, file)), `${failure}: ${file} is not there`);
    const source = readFileSync(path.join(root, file), 'utf8').replaceAll("\\'", "'");
    assert.ok(source.includes(name), `${failure}: ${file} has no test "${name}"`);
  }
});

test('every file that the page of the ASVS names is there, and what it calls proven names a test', () => {
  const rows = [...page('asvs.md').matchAll(/^\| (V[\d.]+) \| \d \| ([a-z ]+) \| (.*) \|$/gm)];
  assert.ok(rows.length > 50);
  for (const [, id = '', state, text = ''] of rows) {
    const files = [...text.matchAll(/`([^` ]+\.(?:ts|md|json))`/g)].map(([, file = '']) => file);
    for (const file of files) assert.ok(existsSync(path.join(root, file)), `${id}: ${file} is not there`);
    if (state === 'proven')
      assert.ok(
        files.some((file) => file.endsWith('.test.ts')),
        id,
      );
    if (state === 'documented') assert.ok(files.length > 0, id);
  }
});
