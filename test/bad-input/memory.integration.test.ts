import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { type Answer, eventually, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { assertError } from './error-answer.ts';
import { head, rawExchange } from './raw-http.ts';

const mebibyte = 1024 * 1024;
const bodyBytes = 20 * mebibyte;
const inFlightBytes = 80 * mebibyte;
let upstream: EchoUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({
    env: {
      STOA_OPENAI_BASE_URL: upstream.url,
      STOA_LOG_LEVEL: 'error',
      STOA_BODIES_IN_FLIGHT_BYTES: `${inFlightBytes}`,
    },
  });
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

const statusFile = (): string => `/proc/${stoa.child.pid ?? 0}/status`;

/** Memory of the process that is in use now, or was at most at any time, in bytes. */
function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(statusFile(), 'utf8'));
  return Number(line?.[1] ?? Number.NaN) * 1024;
}

const start = `{"model":"${echoModel}","messages":[{"role":"user","content":"hi"}],"pad":"`;
const body = Buffer.concat([
  Buffer.from(start),
  Buffer.alloc(bodyBytes - start.length - 2, 0x61),
  Buffer.from('"}'),
]);

async function send(key: string): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', { body, key });
}

test('200 bodies of 20 MiB at once are answered or refused as overloaded, in bounded memory', async (context) => {
  if (!existsSync(statusFile())) context.diagnostic('the memory of another process cannot be read here');
  const isMeasured = existsSync(statusFile());
  const keys = await Promise.all(
    Array.from({ length: 4 }, async (_, at) => (await stoa.newTenant(`large ${at}`)).apiKey),
  );
  const first = await send(keys[0] ?? '');
  assert.equal(first.status, 200, first.text);
  const before = isMeasured ? residentBytes('VmRSS') : 0;
  const answers = await Promise.all(Array.from({ length: 200 }, async (_, at) => send(keys[at % 4] ?? '')));
  const refused = answers.filter(({ status }) => status !== 200);
  for (const answer of refused) {
    assertError(answer, 'overloaded');
    assert.match(String(answer.headers['retry-after']), /^\d+$/);
  }
  assert.ok(refused.length > 0 && refused.length < 200, `${refused.length} refused`);
  if (isMeasured) {
    const grownBytes = residentBytes('VmHWM') - before;
    // Each body held is there as bytes and, while it is read and sent, parsed and in the sockets' buffers.
    assert.ok(grownBytes < 6 * inFlightBytes, `grown by ${Math.round(grownBytes / mebibyte)} MiB`);
    context.diagnostic(
      `grown by at most ${Math.round(grownBytes / mebibyte)} MiB, ${refused.length} of 200 refused`,
    );
  }
  await eventually('room for a body again', async () => (await send(keys[0] ?? '')).status === 200);
});

test('bodies that are stated and never sent hold no room from another tenant', async () => {
  const { baseUrl, demo } = stoa.credentials;
  const { apiKey } = await stoa.newTenant('neighbour');
  const stalled = new AbortController();
  const headers = {
    authorization: `Bearer ${demo.apiKey}`,
    'content-type': 'application/json',
    'content-length': String(bodyBytes),
  };
  const stall = (socket: Socket): void => {
    socket.write(head('POST /v1/chat/completions', headers));
    stalled.signal.addEventListener('abort', () => socket.destroy());
  };
  let refusedCount = 0;
  const holders = Array.from({ length: 10 }, async () => {
    const { answers } = await rawExchange(baseUrl, stall, { withinMs: 60_000 });
    for (const answer of answers) assertError(answer, 'overloaded');
    refusedCount += answers.length;
  });
  await eventually('bodies over the share of one tenant', async () => refusedCount === 8);
  assertError(await send(demo.apiKey), 'overloaded');
  assert.equal((await send(apiKey)).status, 200);
  stalled.abort();
  await Promise.all(holders);
  await eventually('room again', async () => (await send(demo.apiKey)).status === 200);
});
