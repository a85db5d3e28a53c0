import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { AppError } from '#kernel';
import { loadConfigFile, parseConfigText } from './config-file.ts';

const schema = z.strictObject({
  providers: z
    .array(
      z.strictObject({
        name: z.string(),
        base_url: z.url(),
        limits: z.record(z.string(), z.int()).optional(),
      }),
    )
    .default([]),
  models: z.array(z.unknown()).default([]),
});

function refusal(text: string): string {
  try {
    parseConfigText(text, 'stoa.yaml', schema);
  } catch (error) {
    assert.ok(error instanceof AppError);
    assert.equal(error.code, 'invalid_configuration');
    return error.message;
  }
  assert.fail('the file was taken');
}

test('a valid file becomes its checked sections, anchors included', () => {
  const text = 'providers:\n  - &a { name: one, base_url: "http://h/v1" }\n  - *a\n';
  const { providers } = parseConfigText(text, 'stoa.yaml', schema);
  assert.deepEqual(providers[1], { name: 'one', base_url: 'http://h/v1' });
});

test('an empty file has the default of every section', () => {
  assert.deepEqual(parseConfigText('# nothing yet\n', 'stoa.yaml', schema), { providers: [], models: [] });
});

test('every fault of the file is reported with line and column', () => {
  const message = refusal(
    'providers:\n  - name: one\n    base_url: nowhere\n  - base_url: "http://h/v1"\n    name: 7\n',
  );
  assert.match(message, /stoa\.yaml:3:15: providers\[0\]\.base_url is not valid/);
  assert.match(
    message,
    /stoa\.yaml:5:11: providers\[1\]\.name is not valid; expected string, received number/,
  );
  assert.match(message, /has 2 faults/);
});

test('a missing key is reported where its map begins', () => {
  assert.match(
    refusal('providers:\n  - name: one\n'),
    /stoa\.yaml:2:5: providers\[0\]\.base_url is not valid/,
  );
});

test('an unknown section is refused with the nearest known one', () => {
  assert.match(
    refusal('provider:\n  - name: one\n'),
    /stoa\.yaml:2:3: provider is unknown; expected `providers`, perhaps/,
  );
});

test('YAML faults and doubled keys are reported with their place', () => {
  assert.match(refusal('models: []\nmodels: []\n'), /stoa\.yaml:2:1: .*DUPLICATE_KEY.*each key once/);
  assert.match(refusal('models:\n\t- x\n'), /stoa\.yaml:2:\d+: .*TAB_AS_INDENT/);
  assert.match(refusal('models: [\n'), /stoa\.yaml:/);
  assert.match(refusal('[]'), /the file is not valid/);
});

test('a bomb of aliases is refused at once', () => {
  const levels = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (const [index, name] of 'bcdefghi'.split('').entries()) {
    const inner = 'abcdefgh'[index] ?? 'a';
    levels.push(
      `${name}: &${name} [*${inner},*${inner},*${inner},*${inner},*${inner},*${inner},*${inner},*${inner},*${inner}]`,
    );
  }
  assert.match(refusal(`models:\n  - {${levels.join(', ')}}\n`), /aliases/);
});

test('a file nested too deeply is refused', () => {
  assert.match(refusal(`models: ${'['.repeat(70)}${']'.repeat(70)}`), /levels deep/);
});

test('__proto__ in the file changes no prototype', () => {
  const text = 'providers:\n  - { name: a, base_url: "http://h", limits: { __proto__: 1 } }\n';
  try {
    parseConfigText(text, 'stoa.yaml', schema);
  } catch (error) {
    assert.ok(error instanceof AppError);
  }
  assert.equal(Object.getPrototypeOf({}), Object.prototype);
});

test('an absent file is nothing, unless it was named', () => {
  const path = '/nonexistent/stoa.yaml';
  assert.equal(loadConfigFile({ path, mustExist: false, schema }), null);
  assert.throws(
    () => loadConfigFile({ path, mustExist: true, schema }),
    (error: unknown) => {
      return (
        error instanceof AppError &&
        error.code === 'invalid_configuration' &&
        error.message.includes('ENOENT')
      );
    },
  );
});
