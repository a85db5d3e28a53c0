import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { z } from 'zod';
import { createTelemetry } from '#telemetry';
import { defaultTestAdapter } from '#testing';
import { redriveLetters } from './dead-letters.sql.ts';
import { anEvent, dispatcherOn, openArena, recorder, until } from './testing/arena.ts';

const exported = z.object({
  resourceSpans: z.array(
    z.object({
      scopeSpans: z.array(
        z.object({
          spans: z.array(
            z.looseObject({
              traceId: z.string(),
              name: z.string(),
              startTimeUnixNano: z.coerce.bigint(),
              parentSpanId: z.string().optional(),
              links: z.array(z.looseObject({ traceId: z.string(), spanId: z.string() })).optional(),
            }),
          ),
        }),
      ),
    }),
  ),
});

test('the attempt of a redrive is a trace of its own that links to the one in which the event was told', async () => {
  const bodies: string[] = [];
  const collector = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part;
    });
    request.on('end', () => {
      bodies.push(body);
      response.setHeader('content-type', 'application/json').end('{}');
    });
  });
  collector.listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const address = collector.address();
  assert.ok(typeof address === 'object' && address !== null);
  const telemetry = await createTelemetry({
    logLevel: 'silent',
    serviceName: 'test',
    serviceVersion: '0.0.0',
    tracing: { url: `http://127.0.0.1:${address.port}/v1/traces` },
  });
  const arena = await openArena(defaultTestAdapter());
  try {
    const tenantId = await arena.newTenant();
    let fails = true;
    const consumer = recorder('traced', async () => {
      if (fails) throw new Error('planted');
    });
    const running = dispatcherOn(arena.db, telemetry, [consumer], {});
    await running.start();
    const [traceId, spanId] = ['12'.repeat(16), '34'.repeat(8)];
    await arena.tell(anEvent(tenantId, { traceparent: `00-${traceId}-${spanId}-01` }));
    await until(
      () => arena.stored('traced'),
      ([only]) => only?.state === 'dead',
      'the dead letter',
    );
    fails = false;
    const redrivenAt = BigInt(Date.now()) * 1_000_000n;
    const none = { ids: null, type: null, errorCode: null, tenantId: null, from: null, to: null };
    await arena.db.withOperator({ operator: 'system:test' }, 'redrive', (tx) =>
      redriveLetters(tx, { states: ['dead'], consumer: 'traced', ...none }, 50),
    );
    running.wake();
    await until(
      () => arena.effects('traced'),
      (found) => found.length === 1,
      'the effect',
    );
    await running.stop();
    await telemetry.stop();
    const spans = bodies
      .flatMap((body) => exported.parse(JSON.parse(body)).resourceSpans)
      .flatMap(({ scopeSpans }) => scopeSpans)
      .flatMap((scope) => scope.spans)
      .filter(({ name }) => name === 'event traced');
    const redriven = spans.filter(({ startTimeUnixNano }) => startTimeUnixNano >= redrivenAt);
    assert.deepEqual(
      redriven.map(({ links }) => links?.map((link) => [link.traceId, link.spanId])),
      [[[traceId, spanId]]],
    );
    assert.notEqual(redriven[0]?.traceId, traceId);
    assert.equal(redriven[0]?.parentSpanId ?? '', '');
    assert.equal(new Set(spans.map((span) => span.traceId)).size, spans.length, 'each attempt is a trace');
  } finally {
    await arena.close();
    collector.close();
  }
});
