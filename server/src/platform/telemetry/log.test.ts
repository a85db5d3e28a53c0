import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLogger, type LogLevel } from './log.ts';

function capture(level: LogLevel = 'info') {
  const lines: string[] = [];
  const { logger } = createLogger({ level, destination: { write: (line: string) => lines.push(line) } });
  return { logger, lines, last: (): Record<string, unknown> => parsed(lines.at(-1) ?? '{}') };
}

function parsed(line: string): Record<string, unknown> {
  const value: unknown = JSON.parse(line);
  assert.ok(typeof value === 'object' && value !== null);
  return { ...value };
}

test('a line is one JSON object with level, time, message and the fields of its children', () => {
  const { logger, lines, last } = capture();
  logger.child({ tenant_id: 't' }).child({ request_id: 'req_1' }).info({ status: 200 }, 'request completed');
  const { time, ...rest } = last();
  assert.deepEqual(rest, {
    level: 'info',
    tenant_id: 't',
    request_id: 'req_1',
    status: 200,
    message: 'request completed',
  });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.equal(lines.length, 1);
  assert.ok(lines[0]?.endsWith('}\n'));
});

test('what is below the level is not written', () => {
  const { logger, lines } = capture('warn');
  logger.info({}, 'quiet');
  logger.debug({}, 'quiet');
  logger.warn({}, 'heard');
  assert.equal(lines.length, 1);
  const silent = capture('silent');
  silent.logger.error({}, 'quiet');
  assert.equal(silent.lines.length, 0);
});

const secretText = 'Sup3rS3cretValue_abcdef';
const leaks: readonly (readonly [string, object])[] = [
  ['an authorization header', { headers: { authorization: `Basic ${secretText}` } }],
  ['a header list', { response: { headers: { 'set-cookie': [`a=]${secretText}`, secretText] } } }],
  ['an api key of any spelling', { a: { api_key: secretText, apiKey: secretText, 'x-api-key': secretText } }],
  ['a credential deep inside', { a: { b: { c: { d: { credential: secretText } } } } }],
  ['a password with quotes in it', { password: `"${secretText}"\\` }],
  ["Stoa's own keys in text", { note: `used stoa_sk_00${secretText} and stoa_op_00${secretText}` }],
  ['a provider key in text', { note: `Incorrect API key provided: sk-proj-${secretText}` }],
  ['a bearer token in text', { note: `sent Bearer ${secretText}, refused` }],
  ['a password in a URL', { note: `postgres://stoa:${secretText}@db/stoa is away` }],
];

for (const [what, fields] of leaks) {
  test(`${what} never reaches the log, and the line stays JSON`, () => {
    const { logger, lines, last } = capture();
    logger.info({ ...fields, after: 'kept' }, 'x');
    assert.ok(!(lines[0] ?? '').includes(secretText), lines[0]);
    assert.equal(last().after, 'kept');
  });
}

test('counts and ids that only look alike stay', () => {
  const { logger, last } = capture();
  logger.info(
    { input_tokens: 12, key_id: '00abc', url: 'http://h:8080/v1', task: 'risk-assessment-of-a-thing' },
    'x',
  );
  const { input_tokens, key_id, url, task } = last();
  assert.deepEqual(
    { input_tokens, key_id, url, task },
    {
      input_tokens: 12,
      key_id: '00abc',
      url: 'http://h:8080/v1',
      task: 'risk-assessment-of-a-thing',
    },
  );
});

test('an error is logged with its code, frames and causes, and nothing else that hangs on it', () => {
  const { logger, lines, last } = capture();
  const cause = Object.assign(new Error('duplicate'), {
    code: '23505',
    detail: 'Key (name)=(Acme) exists',
    query: 'insert',
  });
  logger.error({ error: new TypeError('settling failed', { cause }) }, 'x');
  const { error } = last();
  assert.ok(
    typeof error === 'object' && error !== null && 'cause' in error && 'stack' in error && 'type' in error,
  );
  assert.equal(error.type, 'TypeError');
  assert.match(String(error.stack), /^ {4}at /);
  assert.ok(typeof error.cause === 'object' && error.cause !== null && 'code' in error.cause);
  assert.equal(error.cause.code, '23505');
  assert.ok(!(lines[0] ?? '').includes('Acme'));
  assert.ok(!(lines[0] ?? '').includes('"query"'));
});

test('the text that JSON.parse quotes in its error does not reach the log', () => {
  const { logger, lines } = capture();
  try {
    JSON.parse('my prompt is private');
  } catch (error) {
    logger.warn({ error: new Error('reading failed', { cause: error }) }, 'x');
  }
  assert.ok(!(lines[0] ?? '').includes('private'));
  assert.ok(!(lines[0] ?? '').includes('my promp'));
  assert.match(lines[0] ?? '', /invalid JSON/);
});

test('causes that go round in a circle, and thrown values that are no errors, are logged all the same', () => {
  const { logger, lines } = capture();
  const error = new Error('round');
  error.cause = error;
  logger.error({ error }, 'x');
  logger.error({ error: 'text' }, 'y');
  assert.equal(lines.length, 2);
});
