/** How a process starts, refuses to start, loses and finds what it leans on, and ends: nothing that was promised is lost. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { readiness } from '@stoa/contracts';
import { z } from 'zod';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { HeldUpstream } from '../setup/held-upstream.ts';
import { codeOf, explain, headerOf, readUsage } from './answer-shapes.ts';
import {
  type Answer,
  databaseAddress,
  eventually,
  runStoa,
  startStoa,
  type StoaProcess,
  usesPostgres,
} from './stoa-process.ts';
import { dataOf, streamChat } from './streamed-answer.ts';
import { createFaultProxy, type FaultProxy } from '../../server/src/testing/fault-proxy.ts';

let upstream: MisbehavingUpstream;
let upstreamGate: FaultProxy;
let databaseGate: FaultProxy;
let held: HeldUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await createMisbehavingUpstream({ listed: ['ok'] });
  upstreamGate = await createFaultProxy({ host: '127.0.0.1', port: Number(new URL(upstream.url).port) });
  await upstreamGate.set({ isShut: true });
  databaseGate = await createFaultProxy(databaseAddress);
  held = new HeldUpstream();
  stoa = await startStoa({
    databasePort: databaseGate.port,
    env: {
      STOA_OPENAI_BASE_URL: `http://127.0.0.1:${upstreamGate.port}/v1`,
      STOA_DRAIN_DELAY_MS: '2500',
      STOA_DRAIN_DEADLINE_MS: '3000',
    },
  });
});

after(async () => {
  await stoa.dispose();
  held.close();
  await upstreamGate.set({ isShut: true });
  await databaseGate.set({ isShut: true });
  await upstream.close();
});

function chat(model: string): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', {
    body: { model, messages: [{ role: 'user', content: 'How are tenants isolated?' }] },
  });
}

async function modelIds(): Promise<string[]> {
  const list = z.object({ data: z.array(z.object({ id: z.string() })) });
  return list.parse((await stoa.call('GET', '/v1/models')).json).data.map(({ id }) => id);
}

test('an upstream that comes up later than Stoa appears by itself, and auto uses it', async () => {
  assert.ok(!(await modelIds()).includes('ok'));
  const before = await chat('auto');
  assert.deepEqual([before.status, headerOf(before, 'x-stoa-target')], [200, 'extractive']);
  await upstreamGate.set({});
  await eventually('model of the late upstream', async () => (await modelIds()).includes('ok'), 40_000);
  const after = await chat('auto');
  assert.deepEqual([after.status, headerOf(after, 'x-stoa-target')], [200, 'ok']);
});

test('an unknown model leads to one listing for all who ask, and is answered if it is there by now', async () => {
  upstream.listed = ['ok', 'ok:7'];
  const found = await eventually(
    'answer of a model that was just added',
    async () => {
      const answer = await chat('ok:7');
      return answer.status === 200 ? answer : null;
    },
    10_000,
  );
  assert.equal(headerOf(found, 'x-stoa-target'), 'ok:7');
  const { listings } = upstream;
  const asked = await Promise.all(Array.from({ length: 30 }, (_, index) => chat(`nowhere-${index}`)));
  assert.ok(asked.every((answer) => codeOf(answer) === 'model_not_found'));
  assert.ok(upstream.listings - listings <= 1, `${upstream.listings - listings} listings for 30 questions`);
});

test('keys are in a file that only its owner reads, and the next start keeps them', async () => {
  const file = join(stoa.dataDirectory, 'credentials.json');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const { operatorKey, demo } = stoa.credentials;
  await stoa.kill();
  await stoa.restart();
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual([stoa.credentials.operatorKey, stoa.credentials.demo], [operatorKey, demo]);
  assert.equal((await chat('extractive')).status, 200);
});

test('a second start on the same data names the process that has it, ends with a failure and harms nothing', async () => {
  const counted = (await readUsage(stoa)).totals.requests;
  const { code, output } = await runStoa(stoa.environment);
  assert.ok(code !== 0 && code !== null, `exit code ${String(code)}`);
  assert.match(output, new RegExp(`process ${stoa.child.pid ?? 0}\\b`));
  assert.equal((await chat('extractive')).status, 200);
  assert.equal((await readUsage(stoa)).totals.requests, counted + 1);
});

test('of two that start at once on a fresh data directory one serves and the other says who does', async () => {
  const dataDirectory = mkdtempSync(join(tmpdir(), 'stoa-journey-'));
  const started = await Promise.allSettled([startStoa({ dataDirectory }), startStoa({ dataDirectory })]);
  try {
    const winners = started.filter((one) => one.status === 'fulfilled').map(({ value }) => value);
    const losers = started.filter((one) => one.status === 'rejected').map(({ reason }) => String(reason));
    assert.equal(winners.length, 1, losers.join('\n'));
    assert.match(losers[0] ?? '', /is used by (process \d+|another process)/);
    assert.equal((await winners[0]?.call('GET', '/v1/models'))?.status, 200);
  } finally {
    for (const one of started) if (one.status === 'fulfilled') await one.value.dispose();
    rmSync(dataDirectory, { recursive: true, force: true });
  }
});

test('the production profile refuses with every fault in one report, exit code 78, and shows no secret', async () => {
  const { code, output } = await runStoa({
    STOA_PROFILE: 'production',
    STOA_DEMO_TENANT: 'true',
    STOA_SCRIPTED_FILE: '/nowhere/script.yaml',
    STOA_MASTER_KEY: Buffer.alloc(32).toString('base64'),
    STOA_LISTEN: 'not an address',
  });
  assert.equal(code, 78, output);
  for (const name of [
    'STOA_DATABASE_URL',
    'STOA_OPERATOR_DATABASE_URL',
    'STOA_SYSTEM_DATABASE_URL',
    'STOA_DEMO_TENANT',
    'STOA_SCRIPTED_FILE',
    'STOA_MASTER_KEY',
    'STOA_LISTEN',
  ]) {
    assert.ok(output.includes(name), `${name} is not in the report:\n${output}`);
  }
  assert.ok(!output.includes('STOA_MIGRATION_DATABASE_URL'), 'whoever only serves needs no such login');
  assert.ok(!output.includes(Buffer.alloc(32).toString('base64')));
});

test('a lost database degrades readiness and keeps known keys chatting; what they used is counted afterwards', {
  skip: usesPostgres ? false : 'an embedded database is not lost on its own',
}, async () => {
  assert.equal((await chat('ok')).status, 200);
  const counted = (await readUsage(stoa)).totals.requests;
  const ready = async (): Promise<string[]> => {
    const answer = await stoa.call('GET', '/readyz');
    assert.equal(answer.status, 200, answer.text);
    return readiness.parse(answer.json).degraded;
  };
  await databaseGate.set({ isShut: true });
  try {
    await eventually('degraded readiness', async () => (await ready()).length > 0, 15_000);
    const chats = await Promise.all(Array.from({ length: 10 }, () => chat('ok')));
    assert.deepEqual(new Set(chats.map(({ status }) => status)), new Set([200]));
    const [first] = chats;
    assert.ok(first);
    assert.equal((await explain(stoa, headerOf(first, 'x-request-id'))).outcome, 'completed');
    const keys = await stoa.call('GET', '/v1/keys');
    assert.deepEqual([keys.status, codeOf(keys)], [503, 'database_unavailable']);
    assert.ok(Number(headerOf(keys, 'retry-after')) >= 1);
  } finally {
    await databaseGate.set({});
  }
  await eventually('whole readiness', async () => (await ready()).length === 0, 30_000);
  const usage = await eventually(
    'count of all',
    async () => {
      const { totals } = await readUsage(stoa);
      return totals.requests >= counted + 10 ? totals.requests : null;
    },
    10_000,
  );
  assert.equal(usage, counted + 10);
});

/** Whether somebody listens where tenants call. */
function isListening(): Promise<boolean> {
  const { hostname, port } = new URL(stoa.credentials.baseUrl);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function addHeldProvider(): Promise<void> {
  const created = await stoa.call('POST', '/control/v1/providers', {
    body: { name: 'held', kind: 'openai-compatible', base_url: await held.listen() },
  });
  assert.equal(created.status, 201, created.text);
  await eventually('held model', async () => (await modelIds()).includes('held'));
}

/** The id and the end of requests that a drain met. */
const drained: { finished: string; late: string; cut: string } = { finished: '', late: '', cut: '' };

function exitOf(process: StoaProcess): Promise<number | null> {
  return new Promise((resolve) => process.child.once('exit', resolve));
}

test('SIGTERM makes readiness 503, lets new calls in for the delay and running streams finish; again it changes nothing', async () => {
  await addHeldProvider();
  const stream = await streamChat(stoa.credentials.baseUrl, stoa.credentials.demo.apiKey, { model: 'held' });
  await stream.until('first');
  drained.finished = headerOf(stream, 'x-request-id');
  const exit = exitOf(stoa);
  stoa.child.kill('SIGTERM');
  const unready = await eventually(
    'unready process',
    async () => {
      const answer = await stoa.call('GET', '/readyz');
      return answer.status === 503 ? answer : null;
    },
    2_000,
  );
  assert.equal(codeOf(unready), 'draining');
  const late = await chat('extractive');
  assert.equal(late.status, 200, 'within the delay calls are served');
  drained.late = headerOf(late, 'x-request-id');
  stoa.child.kill('SIGTERM');
  stoa.child.kill('SIGINT');
  await eventually('shut listener', async () => !(await isListening()), 5_000);
  stoa.child.kill('SIGTERM');
  assert.equal(stoa.child.exitCode, null);
  assert.ok(!stream.text().includes('[DONE]'));
  held.release();
  const text = await stream.whole();
  assert.ok(text.includes(' last') && text.trimEnd().endsWith('data: [DONE]'), text);
  assert.equal(await exit, 0);
});

test('what a drain cannot wait for ends in band, and the process still ends well', async () => {
  await stoa.restart();
  await eventually('held model', async () => (await modelIds()).includes('held'));
  const stream = await streamChat(stoa.credentials.baseUrl, stoa.credentials.demo.apiKey, { model: 'held' });
  await stream.until('first');
  drained.cut = headerOf(stream, 'x-request-id');
  const exit = exitOf(stoa);
  stoa.child.kill('SIGTERM');
  const last = dataOf(await stream.whole()).at(-1) ?? '';
  assert.equal(
    z.object({ error: z.object({ code: z.string() }) }).parse(JSON.parse(last)).error.code,
    'draining',
  );
  assert.equal(await exit, 0);
});

test('every request that a drain met is on record after the next start, with its end', async () => {
  await stoa.restart();
  assert.equal((await explain(stoa, drained.finished)).outcome, 'completed');
  assert.equal((await explain(stoa, drained.late)).outcome, 'completed');
  const cut = await explain(stoa, drained.cut);
  assert.deepEqual([cut.outcome, cut.error?.code], ['failed', 'draining']);
  assert.ok(cut.usage.output_tokens > 0, 'what was delivered is counted');
});
