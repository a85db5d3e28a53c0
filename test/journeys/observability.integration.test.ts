/** What an operator sees without asking a tenant, and what nobody may see there: prompts, answers, keys, secrets. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { liveness, readiness } from '@stoa/contracts';
import { z } from 'zod';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { codeOf, explain, headerOf } from './answer-shapes.ts';
import { type Answer, eventually, send, startStoa, type StoaProcess } from './stoa-process.ts';
import { streamChat } from './streamed-answer.ts';
import { startTraceCollector, type TraceCollector } from './trace-collector.ts';

/** Words that stand nowhere else, so that a single one of them in a log is a leak. */
const prompt = 'zyxomma-prompt-4711';
const systemPrompt = 'quibbleflax-system-4712';
const toolArgument = 'wumpledorf-argument-4713';
const providerSecret = 'sk-upstream-credential-4714';
const headerSecret = 'azure-header-secret-4715';
const endUser = 'customer-4716@example.com';
const clientTrace = '4bf92f3577b34da6a3ce929d0e0e4736';

let upstream: MisbehavingUpstream;
let collector: TraceCollector;
let stoa: StoaProcess;
let tenant: { tenantId: string; apiKey: string; keyId: string };

before(async () => {
  upstream = await createMisbehavingUpstream({
    listed: ['ok', 'leaky', '500', 'error-frame', 'endless', 'html'],
  });
  collector = await startTraceCollector();
  stoa = await startStoa({
    env: {
      STOA_OPENAI_BASE_URL: upstream.url,
      STOA_OPENAI_API_KEY: providerSecret,
      STOA_LOG_LEVEL: 'debug',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_BSP_SCHEDULE_DELAY: '100',
    },
  });
  tenant = await stoa.newTenant('Observed tenant 4717');
  const provider = await stoa.call('POST', '/control/v1/providers', {
    body: {
      name: 'second',
      kind: 'openai-compatible',
      base_url: upstream.url,
      credential: `${providerSecret}-too`,
      headers: { 'api-key': headerSecret },
      discover: false,
    },
  });
  assert.equal(provider.status, 201, provider.text);
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

function chat(model: string, headers: Record<string, string> = {}): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', {
    key: tenant.apiKey,
    body: {
      model,
      user: endUser,
      messages: [
        { role: 'system', content: systemPrompt },
        { role: 'user', content: prompt },
      ],
      tools: [{ type: 'function', function: { name: 'f', description: toolArgument } }],
    },
    headers,
  });
}

/** The value of a series that has these labels, or 0. */
function seriesIn(text: string, name: string, ...labels: string[]): number {
  const line = text
    .split('\n')
    .find((one) => one.startsWith(`${name}{`) && labels.every((label) => one.includes(label)));
  return Number(line?.split(' ').at(-1) ?? 0);
}

test('the four plain paths need no credential, each on its own listener, and no other path does without', async () => {
  const { baseUrl, adminUrl } = stoa.credentials;
  const live = await send('GET', `${baseUrl}/livez`, {});
  assert.deepEqual(liveness.parse(live.json), { status: 'live' });
  const ready = await send('GET', `${baseUrl}/readyz`, {});
  assert.deepEqual(readiness.parse(ready.json), { status: 'ready', degraded: [] });
  const document = await send('GET', `${baseUrl}/openapi.json`, {});
  assert.match(z.object({ openapi: z.string() }).parse(document.json).openapi, /^3\.1/);
  const metrics = await send('GET', `${adminUrl}/metrics`, {});
  assert.equal(metrics.status, 200);
  assert.match(headerOf(metrics, 'content-type'), /^text\/plain/);
  for (const url of [`${baseUrl}/metrics`, `${adminUrl}/livez`, `${baseUrl}/control/v1/tenants`]) {
    for (const authorization of [undefined, `Bearer ${stoa.credentials.operatorKey}`]) {
      const answer = await send('GET', url, authorization === undefined ? {} : { authorization });
      assert.deepEqual([answer.status, codeOf(answer)], [404, 'not_found'], url);
    }
  }
  for (const url of [`${baseUrl}/v1/models`, `${baseUrl}/v1/requests`, `${adminUrl}/control/v1/tenants`]) {
    const answer = await send('GET', url, {});
    assert.deepEqual([answer.status, codeOf(answer)], [401, 'invalid_api_key'], url);
  }
});

test('metrics count what happened, by bounded labels and never by tenant, key, model or user', async () => {
  const read = async (): Promise<string> => (await stoa.call('GET', '/metrics')).text;
  const before = await read();
  assert.equal((await chat('ok')).status, 200);
  assert.equal((await chat('500')).status, 502);
  const stream = await streamChat(stoa.credentials.baseUrl, tenant.apiKey, { model: 'ok' });
  await stream.whole();
  const text = await read();
  const grown = (name: string, ...labels: string[]): number =>
    seriesIn(text, name, ...labels) - seriesIn(before, name, ...labels);
  assert.equal(grown('stoa_gateway_requests_total', 'outcome="completed"'), 2);
  assert.equal(grown('stoa_gateway_requests_total', 'outcome="failed"', 'code="provider_error"'), 1);
  assert.ok(grown('stoa_gateway_attempts_total', 'result="status"') >= 1);
  assert.equal(grown('stoa_gateway_tokens_total', 'kind="output"'), 6);
  for (const name of [
    'stoa_gateway_request_duration_seconds',
    'stoa_gateway_time_to_first_token_seconds',
    'stoa_gateway_circuits',
    'stoa_event_loop_lag_seconds',
    'stoa_journal',
    'stoa_gateway_cost_dollars_total',
  ]) {
    assert.ok(text.includes(name), name);
  }
  for (const secret of secrets()) assert.ok(!text.includes(secret), `${secret} is in the metrics`);
  assert.doesNotMatch(text, /\b(tenant|key_id|model|end_user|project)="/);
});

/** What may be in no log, metric or trace. */
function secrets(): string[] {
  const { apiKey } = tenant;
  return [
    prompt,
    systemPrompt,
    toolArgument,
    providerSecret,
    headerSecret,
    apiKey,
    apiKey.slice(-36),
    stoa.credentials.operatorKey,
    stoa.credentials.demo.apiKey,
    stoa.credentials.demo.apiKey.slice(-36),
    'sk-live-abcdef0123456789',
    readFileSync(join(stoa.dataDirectory, 'master.key'), 'utf8').trim(),
  ];
}

const outcomeLine = z.object({
  message: z.literal('request'),
  request_id: z.string(),
  tenant_id: z.string().nullable(),
  key_id: z.string().nullable(),
  trace_id: z.string().optional(),
  status: z.number(),
});

/** The lines of the log that tell how a request ended. */
function outcomeLines(): z.infer<typeof outcomeLine>[] {
  return stoa
    .output()
    .split('\n')
    .flatMap((line) => {
      const read = line.startsWith('{') ? outcomeLine.safeParse(JSON.parse(line)) : null;
      return read?.success ? [read.data] : [];
    });
}

test('the logs, down to debug, hold one line for each outcome with its ids, and no prompt, answer, key or secret', async () => {
  const answers = await Promise.all(['ok', 'leaky', '500', 'html', 'nowhere'].map((model) => chat(model)));
  await stoa.call('GET', '/v1/models', { key: `${tenant.apiKey.slice(0, -4)}0000` });
  await stoa.call('POST', '/v1/chat/completions', { key: tenant.apiKey, body: `{"messages": "${prompt}` });
  await stoa.call('POST', '/v1/keys', {
    key: tenant.apiKey,
    body: { name: 'fresh', role: 'viewer' },
    headers: { 'idempotency-key': 'once-4718' },
  });
  const failing = await streamChat(stoa.credentials.baseUrl, tenant.apiKey, {
    model: 'error-frame',
    messages: [{ role: 'user', content: prompt }],
  });
  await failing.whole();
  for (const answer of answers) {
    const id = headerOf(answer, 'x-request-id');
    const line = await eventually('outcome', async () => outcomeLines().find((one) => one.request_id === id));
    const { trace_id: traceId } = await explain(stoa, id, tenant.apiKey);
    assert.deepEqual(
      [line.tenant_id, line.trace_id, line.status, line.key_id],
      [tenant.tenantId, traceId, answer.status, tenant.keyId],
    );
  }
  const output = stoa.output();
  for (const secret of secrets()) assert.ok(!output.includes(secret), `${secret} is in the logs`);
  assert.ok(!output.includes('w0 w1'), 'an answer is in the logs');
});

test('neither the journal nor any other plain file of the data directory holds a prompt, an answer or a key', () => {
  const files = readdirSync(stoa.dataDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('pglite'))
    .filter(({ name }) => name !== 'credentials.json' && name !== 'master.key');
  assert.ok(files.length > 0);
  for (const { parentPath, name } of files) {
    const content = readFileSync(join(parentPath, name));
    for (const secret of secrets()) {
      assert.equal(content.indexOf(secret), -1, `${secret} is in ${name}`);
    }
    assert.equal(content.indexOf('w0 w1'), -1, `an answer is in ${name}`);
  }
});

test("the trace of a request reaches the collector under the explanation's trace id, with its attempts, linked to the caller's", async () => {
  const answer = await chat('ok', { traceparent: `00-${clientTrace}-00f067aa0ba902b7-01` });
  const { trace_id: traceId } = await explain(stoa, headerOf(answer, 'x-request-id'), tenant.apiKey);
  assert.notEqual(traceId, clientTrace);
  const spans = await eventually(
    'trace',
    async () => {
      const found = collector.spans.filter((span) => span.traceId === traceId);
      return found.length >= 2 ? found : null;
    },
    15_000,
  );
  const root = spans.find(({ parentSpanId }) => !parentSpanId);
  assert.ok(root, 'the request is the root');
  assert.deepEqual(
    root.links?.map((link) => link.traceId),
    [clientTrace],
  );
  assert.ok(spans.some(({ parentSpanId }) => parentSpanId === root.spanId));
  const call = upstream.requests.findLast(({ model }) => model === 'ok');
  const sent = call?.headers['traceparent'];
  assert.ok(typeof sent === 'string' && sent.includes(traceId), `the provider got ${String(sent)}`);
  for (const secret of secrets()) {
    assert.ok(!collector.bodies.some((body) => body.includes(secret)), `${secret} is in a trace`);
  }
});

test('a collector that is gone holds nothing up: requests go on, and the process ends well', async () => {
  await collector.close();
  assert.equal((await chat('ok')).status, 200);
  assert.equal(await stoa.stop(), 0);
  for (const secret of secrets()) assert.ok(!stoa.output().includes(secret), `${secret} is in the logs`);
});
