import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '../../../..');

interface Source {
  readonly file: string;
  readonly text: string;
}

/** Names in the first place of a call, as `serveApi(fixtureApi, ...)`; a function's own `bind(this, ...)` is none. */
function firstArguments(text: string, functionName: string): readonly string[] {
  const names = [...text.matchAll(new RegExp(`(?<!\\w)${functionName}\\(\\s*(\\w+)\\s*,`, 'g'))].map(
    ([, name = '']) => name,
  );
  return names.filter((name) => !['this', 'null', 'undefined'].includes(name));
}

/**
 * What keeps a service API from being tried in all its modes: local, through the codec with one call repeated, remote.
 * Every description must be exported under a name, run through `callsContract` under that name, and what a process serves
 * or binds must be such a description.
 */
function faultsOf(sources: readonly Source[]): readonly string[] {
  const code = sources.filter(({ file }) => !/\.(integration\.)?test\.ts$/.test(file));
  const tests = sources.filter((source) => !code.includes(source));
  const run = new Set(tests.flatMap(({ text }) => firstArguments(text, 'callsContract')));
  const declared = new Map<string, string>();
  const faults: string[] = [];
  for (const { file, text } of code) {
    const named = [...text.matchAll(/export const (\w+)(?:\s*:[^=]+)? =\s*defineServiceApi\(/g)];
    for (const [, name = ''] of named) declared.set(name, file);
    const calls = [...text.matchAll(/(?<!function )\bdefineServiceApi\(/g)].length;
    if (calls > named.length) faults.push(`${file}: a service API is described without an exported name`);
  }
  for (const [name, file] of declared) {
    if (!run.has(name)) faults.push(`${file}: no test runs ${name} through callsContract`);
  }
  for (const { file, text } of code) {
    if (!file.startsWith('server/src/app/')) continue;
    for (const name of [...firstArguments(text, 'serveApi'), ...firstArguments(text, 'bind')]) {
      if (!declared.has(name))
        faults.push(`${file}: ${name} is bound, and is no service API that is described`);
    }
  }
  return faults;
}

test('every service API is run through callsContract by a test, in all its modes', () => {
  const files = globSync(['contracts/src/**/*.ts', 'server/src/**/*.ts'], { cwd: root });
  const sources = files
    .filter((file) => path.basename(file) !== path.basename(import.meta.filename))
    .map((file) => ({ file, text: readFileSync(path.join(root, file), 'utf8') }));
  assert.ok(
    sources.some(({ text }) => text.includes('export const fixtureApi = defineServiceApi(')),
    'the search finds nothing any more',
  );
  assert.deepEqual(faultsOf(sources), []);
});

test('an API that is described, served or bound past the contract is found', () => {
  const api = {
    file: 'contracts/src/calls/billing.ts',
    text: 'export const billingApi = defineServiceApi({',
  };
  const contract = {
    file: 'server/src/services/billing/api.test.ts',
    text: 'callsContract(\n  billingApi, {',
  };
  const bound = { file: 'server/src/app/compose.ts', text: 'services: [serveApi(billingApi, billing)]' };
  assert.deepEqual(faultsOf([api, contract, bound]), []);
  const planted: readonly (readonly Source[])[] = [
    [api, bound],
    [{ ...api, text: 'const billingApi = defineServiceApi({' }, contract],
    [{ ...api, text: 'export default defineServiceApi({' }, contract],
    [api, contract, { ...bound, text: 'cluster.bind(otherApi, { local })' }],
    [api, contract, { ...bound, text: 'bind(otherApi, { local })' }],
    [api, { ...contract, text: 'callsContract(otherApi, {' }],
    [contract, bound],
  ];
  for (const sources of planted) assert.notDeepEqual(faultsOf(sources), [], JSON.stringify(sources));
});
