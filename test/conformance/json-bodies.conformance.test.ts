/**
 * Raw bodies through the two doors: what is JSON is never refused as if it were none, what is none gets one of three
 * codes, nothing is a fault of ours, and nothing takes long. JSON that is legal passes to a provider byte for byte.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ErrorCode } from '@stoa/contracts';
import { z } from 'zod';
import {
  echoModel,
  type EchoUpstream,
  fingerprintOf,
  startEchoUpstream,
} from '../bad-input/echo-upstream.ts';
import { errorCodeOf } from '../bad-input/error-answer.ts';
import { type Answer, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { jsonCases, sayCases } from './vectors.ts';

const longestMs = 2_000;
const unreadable: readonly ErrorCode[] = ['invalid_json', 'invalid_encoding', 'json_too_deep'];
const cases = jsonCases();
let upstream: EchoUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'error' } });
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

async function post(path: string, body: Buffer, what: string): Promise<Answer> {
  const startedAt = performance.now();
  const answer = await stoa.call('POST', path, { body });
  const durationMs = performance.now() - startedAt;
  assert.ok(durationMs < longestMs, `${what} took ${durationMs} ms`);
  assert.ok(answer.status < 500, `${what}: ${answer.status} ${answer.text}`);
  return answer;
}

for (const path of ['/v1/chat/completions', '/v1/embeddings', '/v1/keys', '/control/v1/tenants']) {
  test(`${path}: a body that is no JSON is told so, one that is JSON is judged by its content`, async () => {
    for (const { name, expect, bytes } of cases) {
      const answer = await post(path, bytes, name);
      const code = errorCodeOf(answer, name);
      if (expect === 'reject') assert.ok(unreadable.includes(code), `${name}: ${answer.text}`);
      if (expect === 'accept') assert.equal(code, 'invalid_request', `${name}: ${answer.text}`);
    }
    sayCases(`JSON bodies through ${path}`, cases.length);
  });
}

test('JSON as a member of a chat reaches the provider byte for byte, and what is none never does', async () => {
  const echoed = z.looseObject({ system_fingerprint: z.string() });
  for (const { name, expect, bytes } of cases) {
    const head = `{"model":"${echoModel}","messages":[{"role":"user","content":"hi"}],"extra":`;
    const body = Buffer.concat([Buffer.from(head), bytes, Buffer.from('}')]);
    const answer = await post('/v1/chat/completions', body, name);
    if (answer.status === 200) {
      assert.notEqual(expect, 'reject', `${name}: ${body.toString().slice(0, 200)}`);
      assert.equal(echoed.parse(answer.json).system_fingerprint, fingerprintOf(body), name);
    } else {
      assert.notEqual(expect, 'accept', `${name}: ${answer.text}`);
      assert.ok(unreadable.includes(errorCodeOf(answer, name)), `${name}: ${answer.text}`);
    }
  }
  sayCases('JSON bodies as a member of a chat', cases.length);
});
