import { deepEqual, equal, ok } from 'node:assert/strict';
import { test } from 'node:test';
import type { OutboundHeaders } from '#http';
import { contractTarget } from './contract.ts';
import { faultOfFrame, faultOfOutbound, faultOfStatus, providerFault } from './fault.ts';
import { rejectionMessage, safeMessage } from './fault-message.ts';
import { retryAfterMs } from './fault-retry-after.ts';

const { provider: connection } = contractTarget('m', {
  kind: 'openai-compatible',
  baseUrl: 'https://llm-box/v1',
  credential: 'plainsecret',
  headers: { 'x-team-token': 'teamtoken' },
});
const nowMs = Date.UTC(2026, 0, 1);

function fault(status: number, body: string, headers: OutboundHeaders = {}) {
  return faultOfStatus({ status, headers, body, connection, nowMs });
}

test('the wait is read from seconds, milliseconds, dates and the resets of spent limits', () => {
  const wait = (headers: OutboundHeaders, status = 429) => retryAfterMs(status, headers, nowMs);
  equal(wait({ 'retry-after': '2' }), 2_000);
  equal(wait({ 'retry-after': '0.25' }), 250);
  equal(wait({ 'retry-after': ['3', '9'] }), 3_000);
  equal(wait({ 'retry-after': 'Thu, 01 Jan 2026 00:00:30 GMT' }), 30_000);
  equal(wait({ 'retry-after': 'Wed, 31 Dec 2025 00:00:30 GMT' }), 0);
  equal(wait({ 'retry-after': '99999999999' }), 86_400_000);
  equal(wait({ 'retry-after-ms': '120', 'retry-after': '2' }), 120);
  equal(wait({ 'retry-after': '-1' }), null);
  equal(wait({ 'retry-after': 'soon' }), null);
  equal(wait({}), null);
  equal(wait({ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' }), 360_000);
  equal(wait({ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '120ms' }), 120);
  equal(wait({ 'x-ratelimit-remaining-tokens': '5', 'x-ratelimit-reset-tokens': '120ms' }), null);
  // Seconds, milliseconds or a Unix time: nobody can tell.
  equal(wait({ 'x-ratelimit-remaining-tokens': '0', 'x-ratelimit-reset-tokens': '1767225600' }), null);
  equal(
    wait({
      'x-ratelimit-remaining-requests': '0',
      'x-ratelimit-reset-requests': '1s',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '1.5s',
    }),
    1_500,
  );
  equal(
    wait({
      'anthropic-ratelimit-input-tokens-remaining': '0',
      'anthropic-ratelimit-input-tokens-reset': '2026-01-01T00:00:12Z',
    }),
    12_000,
  );
  equal(wait({ 'retry-after': '2' }, 503), 2_000);
  equal(wait({ 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' }, 503), null);
  equal(wait({ 'retry-after': '2' }, 400), null);
});

test('a status becomes its kind, and an account that is spent is the operator’s fault, not a throttle', () => {
  const error = (code: string | null) => JSON.stringify({ error: { message: 'm', code } });
  equal(fault(429, error('rate_limit_exceeded')).kind, 'throttled');
  equal(fault(429, error('insufficient_quota')).kind, 'credential');
  equal(fault(402, '').kind, 'credential');
  equal(fault(401, '').kind, 'credential');
  equal(fault(403, '').kind, 'credential');
  equal(fault(404, error('model_not_found')).kind, 'rejected');
  equal(fault(404, '<html>nothing here</html>').kind, 'status');
  for (const status of [400, 413, 422]) equal(fault(status, '').kind, 'rejected');
  for (const status of [300, 307, 405, 408, 409, 418, 500, 503, 529]) equal(fault(status, '').kind, 'status');
});

test('a rejection carries only a code, a parameter and a message of the right shape', () => {
  const rejection = (error: unknown) => fault(400, JSON.stringify({ error })).rejection;
  const generic = 'The provider rejected the request.';
  deepEqual(
    rejection({ message: 'too long', code: 'context_length_exceeded', param: 'messages[0].content' }),
    {
      code: 'context_length_exceeded',
      param: 'messages[0].content',
      message: 'too long',
    },
  );
  deepEqual(rejection({ message: 'missing', code: 'a b <c>', param: 'x y' }), {
    code: null,
    param: null,
    message: 'missing',
  });
  deepEqual(rejection({ message: { a: 1 }, code: 400 }), { code: '400', param: null, message: generic });
  deepEqual(rejection('plain content'), { code: null, param: null, message: 'plain content' });
  deepEqual(rejection(null), { code: null, param: null, message: generic });
  equal(fault(400, 'not json').rejection?.message, generic);
  equal(
    fault(400, '{"object":"error","message":"flat input","code":40301}').rejection?.message,
    'flat input',
  );
  equal(fault(400, '{"__proto__":{"error":{"message":"x"}}}').rejection?.message, generic);
});

test('nothing of a provider’s insides is in a message for a client', () => {
  const hidden: readonly (readonly [string, string])[] = [
    ['see https://host.example/a?b=c for more', 'see [address] for more'],
    ['dial tcp 10.0.0.7:8000: refused', 'dial tcp [address]: refused'],
    ['connect to gpu-1:8443 failed', 'connect to [address] failed'],
    ['no route to llm.prod.internal', 'no route to [address]'],
    ['host llm-box is full', 'host [redacted] is full'],
    ['open /etc/llm/model.bin failed', 'open [path] failed'],
    ['open C:\\models\\a.bin failed', 'open [path] failed'],
    ['key sk-proj-abc123def456 is bad', 'key [key] is bad'],
    ['Incorrect API key provided: abcd****wxyz.', 'Incorrect API key provided: [key].'],
    ['token plainsecret or teamtoken', 'token [redacted] or [redacted]'],
    ['hash 0123456789abcdef0123456789abcdef01', 'hash [redacted]'],
    ['organization org-a1b2c3d4e5f6 is off', 'organization [account] is off'],
    ['mail ops@corp.example now', 'mail [address] now'],
  ];
  for (const [text, expected] of hidden) equal(safeMessage(text, connection), expected);
});

test('a sentence for people stays as it is', () => {
  for (const text of [
    "Invalid value for 'messages[0].content': expected a string.",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    'The model `gpt-4.1-mini` does not exist or you do not have access to it.',
    'The model llama3.1:70b-instruct is not loaded.',
    'temperature must be between 0 and 2, got 3.5 and/or top_p',
    'image/png is not supported',
    'line 3:15 is wrong',
  ]) {
    equal(safeMessage(text, connection), text);
  }
});

test('a rejection that speaks of machines, or not of the request, is not passed on', () => {
  for (const text of [
    'gpu worker db-primary at node-17 died',
    'request to node-17 failed',
    'host ip-10-0-3-17 said no',
    'SELECT * FROM users WHERE id=1 failed on db-primary',
    'CUDA out of memory while the prompt was read',
    'the model is loading on ip-10-0-3-17 with a socket error',
    'no',
  ])
    equal(rejectionMessage(text, connection), null, text);
  for (const text of [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "Unrecognized request argument supplied: 'foo'",
    "Invalid value for 'temperature': must be at most 2",
    'The model `gpt-4o-mini` does not exist',
    "Missing required parameter: 'messages[0].content'",
    'Your prompt was flagged by our safety system',
    'Image is too large',
  ])
    equal(rejectionMessage(text, connection), text);
});

test('a message that is no sentence is left out, and a long one is cut', () => {
  equal(safeMessage('<html><body>x</body></html>', connection), null);
  equal(safeMessage('Error\n    at run (/a/b.js:1:2)', connection), null);
  equal(safeMessage('Traceback (most recent call last): x', connection), null);
  equal(safeMessage('x'.repeat(2_001), connection), null);
  equal(safeMessage('nul \u0000 byte', connection), null);
  equal(safeMessage('   ', connection), null);
  equal(safeMessage('word '.repeat(100), connection)?.length, 300);
});

test('a hostile message costs no more than a few milliseconds', () => {
  for (const part of [
    'a',
    'a.',
    'a-',
    '*',
    '/a',
    '<',
    'a@',
    '1.',
    'a:',
    'sk-',
    'aB1',
    '[::',
    'select from ',
  ]) {
    const before = process.cpuUsage();
    rejectionMessage(part.repeat(Math.floor(2_000 / part.length)), connection);
    ok(process.cpuUsage(before).user < 100_000, part);
  }
});

test('the detail for the log holds no text of a rejection, which may quote the prompt', () => {
  const rejected = fault(
    400,
    JSON.stringify({ error: { message: 'bad value: my secret prompt', code: 'bad_value' } }),
  );
  equal(rejected.detail.includes('prompt'), false);
  ok(rejected.detail.includes('bad_value'));
  ok(providerFault('status', 'x'.repeat(900)).detail.length === 500);
});

test('an error frame is told from a chunk', () => {
  equal(
    faultOfFrame({ error: { message: 'overloaded', type: 'server_error' } }, connection, 'r')?.kind,
    'error_frame',
  );
  equal(faultOfFrame({ error: 'overloaded' }, connection, null)?.kind, 'error_frame');
  equal(faultOfFrame({ choices: [], error: null }, connection, null), null);
  equal(faultOfFrame({ choices: [] }, connection, null), null);
  equal(faultOfFrame('text', connection, null), null);
  equal(faultOfFrame(null, connection, null), null);
});

test('a fault of the connection keeps its code for the log', () => {
  const refused = faultOfOutbound({ kind: 'unreachable', code: 'ECONNREFUSED', detail: 'connect' }, null);
  equal(refused.kind, 'unreachable');
  ok(refused.detail.startsWith('ECONNREFUSED'));
  equal(faultOfOutbound({ kind: 'too_large', code: null, detail: 'x' }, null).kind, 'unreadable');
});
