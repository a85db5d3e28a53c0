import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { z } from 'zod';
import { createTelemetry, type TelemetrySettings } from './telemetry.ts';
import { parseTraceparent } from './trace-ids.ts';

const settings: TelemetrySettings = {
  logLevel: 'silent',
  serviceName: 'stoa',
  serviceVersion: '1.2.3',
  tracing: null,
};
const caller = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

const exported = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: z.array(z.object({ key: z.string(), value: z.looseObject({}) })) }),
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.object({
              traceId: z.string(),
              spanId: z.string(),
              parentSpanId: z.string().optional(),
              name: z.string(),
              kind: z.number(),
              links: z.array(z.object({ traceId: z.string(), spanId: z.string() })).default([]),
              attributes: z.array(z.object({ key: z.string() })).default([]),
              status: z.object({ code: z.number(), message: z.string().optional() }),
            }),
          ),
        }),
      ),
    }),
  ),
});

test('without a collector every request has a trace of its own, and a valid traceparent that says "not sampled"', async () => {
  const telemetry = await createTelemetry(settings);
  assert.equal(telemetry.tracer.isEnabled, false);
  const seen = new Set<string>();
  for (let index = 0; index < 1_000; index++) {
    const span = telemetry.tracer.startRequest('request', caller);
    const child = telemetry.tracer.startChild(span, 'attempt');
    seen.add(span.traceId);
    assert.equal(child.traceId, span.traceId);
    assert.notEqual(child.traceparent, span.traceparent);
    assert.equal(child.traceparent, child.traceparent);
    const read = parseTraceparent(child.traceparent);
    assert.equal(read?.traceId, span.traceId);
    assert.equal(read.traceFlags, 0);
  }
  assert.equal(seen.size, 1_000);
  assert.ok(!seen.has('0af7651916cd43dd8448eb211c80319c'));
  await telemetry.stop();
});

test("a collector receives the request's span with the caller as a link and never the parent, and the attempt below it", async () => {
  const bodies: string[] = [];
  const server = createServer((request, response) => {
    request.setEncoding('utf8');
    let body = '';
    request.on('data', (chunk: string) => {
      body += chunk;
    });
    request.on('end', () => {
      bodies.push(body);
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const telemetry = await createTelemetry({
    ...settings,
    tracing: { url: `http://127.0.0.1:${portOf(server.address())}/v1/traces` },
  });
  const root = telemetry.tracer.startRequest('chat.completions', caller);
  const attempt = telemetry.tracer.startChild(root, 'attempt');
  attempt.setAttribute('stoa.target', 'gpt-4o');
  attempt.end(Object.assign(new Error('what the tenant wrote'), { code: 'provider_error' }));
  root.end();
  await telemetry.stop();
  await telemetry.stop();
  await new Promise((resolve) => server.close(resolve));
  assert.equal(bodies.length, 1);
  assert.ok(!bodies[0]?.includes('what the tenant wrote'));
  const { resourceSpans } = exported.parse(JSON.parse(bodies[0] ?? ''));
  const spans = resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans));
  const request = spans.find(({ name }) => name === 'chat.completions');
  const child = spans.find(({ name }) => name === 'attempt');
  assert.equal(request?.traceId, root.traceId);
  assert.notEqual(request.traceId, '0af7651916cd43dd8448eb211c80319c');
  assert.equal(request.parentSpanId, undefined);
  assert.deepEqual(request.links, [
    { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' },
  ]);
  assert.equal(child?.parentSpanId, request.spanId);
  assert.equal(attempt.traceparent, `00-${root.traceId}-${child.spanId}-01`);
  assert.deepEqual(child.status, { code: 2, message: 'provider_error' });
  assert.ok(child.attributes.some(({ key }) => key === 'stoa.target'));
  const names = resourceSpans[0]?.resource.attributes.map(({ key }) => key) ?? [];
  assert.ok(names.includes('service.name') && names.includes('service.version'));
});

test('a collector that is away does not keep the process from stopping, and that is told', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = portOf(server.address());
  await new Promise((resolve) => server.close(resolve));
  const lines: string[] = [];
  const telemetry = await createTelemetry({
    ...settings,
    logLevel: 'warn',
    logDestination: { write: (line: string) => lines.push(line) },
    tracing: { url: `http://127.0.0.1:${port}/v1/traces` },
    stopDeadlineMs: 100,
  });
  telemetry.tracer.startRequest('x').end();
  const startedMs = performance.now();
  await telemetry.stop();
  assert.ok(
    performance.now() - startedMs < 2_000,
    'the deadline ends the wait, not the retries of the exporter',
  );
  assert.match(lines.join(''), /the last spans could not be sent/);
});

test('a malformed traceparent is no link, whatever it holds', () => {
  const id = '0af7651916cd43dd8448eb211c80319c';
  const bad = [
    '',
    'x',
    `00-${id}-b7ad6b7169203331`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${id}-${'0'.repeat(16)}-01`,
    `ff-${id}-b7ad6b7169203331-01`,
    `00-${id}-b7ad6b7169203331-01-more`,
    `00-${id.toUpperCase()}-b7ad6b7169203331-01`,
    `01-${id}-b7ad6b7169203331-01-${'x'.repeat(300)}`,
  ];
  for (const text of bad) assert.equal(parseTraceparent(text), null, text);
  assert.deepEqual(parseTraceparent(`cc-${id}-b7ad6b7169203331-01-later`)?.traceId, id);
});

test('the process tells its CPU, memory, event-loop lag and version', async () => {
  const telemetry = await createTelemetry(settings);
  await new Promise((resolve) => setImmediate(resolve));
  const text = await telemetry.renderMetrics();
  for (const name of [
    'process_cpu_seconds_total{mode="user"}',
    'process_resident_memory_bytes',
    'stoa_event_loop_lag_seconds{quantile="0.99"}',
    'stoa_event_loop_busy_ratio',
    'process_start_time_seconds',
    `stoa_build_info{version="1.2.3",node="${process.version}"} 1`,
  ]) {
    assert.ok(text.includes(`\n${name}`), name);
  }
  assert.match(telemetry.metricsContentType, /^text\/plain; version=0\.0\.4/);
  await telemetry.stop();
});

function portOf(address: AddressInfo | string | null): number {
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}
