import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as contracts from '@stoa/contracts';
import { z } from 'zod';
import { AppError, newRequestId } from '#kernel';
import { openRoute } from './routes.ts';
import type { RequestContext } from './types.ts';

const shared = {
  summary: 'For the test.',
  errors: ['invalid_request'],
  idempotent: 'no',
  example: {},
  listener: 'public',
  method: 'GET',
  access: 'anyone',
  responses: { 200: { description: 'Nothing' } },
} as const;
const query = z.object({ limit: z.string().optional(), outcome: z.string().optional() });
const listing = openRoute(
  contracts.endpoint({ ...shared, id: 'listing', path: '/v1/listing', query }),
  async () => ({
    status: 200,
  }),
);
const plain = openRoute(contracts.endpoint({ ...shared, id: 'plain', path: '/v1/plain' }), async () => ({
  status: 200,
}));

const context: RequestContext = {
  requestId: newRequestId(),
  publicRequestId: 'req_',
  clientRequestId: null,
  traceparent: null,
  clientAddress: '127.0.0.1',
  userAgent: null,
  ifMatch: null,
  idempotencyKey: null,
};
const ask = (route: typeof plain, sent: object) =>
  route.handle({ params: {}, query: sent, body: undefined }, null, context);

test('a query parameter that an endpoint does not have is refused with the nearest that it has', async () => {
  for (const [name, said] of [
    ['outcom', 'This endpoint has no query parameter outcom. Did you mean outcome?'],
    ['Limit', 'This endpoint has no query parameter Limit. Did you mean limit?'],
    ['cursor', 'This endpoint has no query parameter cursor. It has limit, outcome.'],
    ['__proto__', 'This endpoint has no query parameter __proto__. It has limit, outcome.'],
  ] as const) {
    await assert.rejects(
      ask(listing, Object.fromEntries([[name, 'x']])),
      (error) =>
        error instanceof AppError && error.code === 'invalid_request' && error.publicMessage === said,
    );
  }
  await ask(listing, { limit: '1', outcome: 'failed' });
});

test('an endpoint without a query, as OpenAI has them, takes what clients add to it', async () => {
  await ask(plain, { 'api-version': '2024-10-21' });
});

test('the query of every list is an object whose names can be told, so that a misspelt filter is never passed over', () => {
  const queries = Object.values<unknown>(contracts).flatMap((value) =>
    typeof value === 'object' && value !== null && 'listener' in value && 'query' in value && value.query
      ? [value.query]
      : [],
  );
  assert.ok(queries.length > 10);
  assert.ok(queries.every((one) => one instanceof z.ZodObject));
});

test('a fault of the input says what to send instead', async () => {
  const body = z.strictObject({
    name: z.string().min(2).max(5),
    kind: z.enum(['chat', 'embedding']).optional(),
    count: z.int().positive().optional(),
    list: z.array(z.string()).max(1).optional(),
    at: z.iso.datetime().optional(),
    own: z.string().regex(/^a/, 'Begin it with an a').optional(),
  });
  const contract = contracts.endpoint({ ...shared, method: 'POST', id: 'input', path: '/v1/input', body });
  const route = openRoute(contract, async () => ({ status: 200 }));
  const cases: readonly (readonly [unknown, string])[] = [
    [{}, 'name: Send a string; it is missing.'],
    [{ name: 1 }, 'name: Send a string, not a number.'],
    [{ name: null }, 'name: Send a string, not null.'],
    [{ name: ['a', 'b'] }, 'name: Send a string, not a list.'],
    [{ name: 'a' }, 'name: Send at least 2 characters.'],
    [{ name: 'abcdef' }, 'name: Send at most 5 characters.'],
    [{ name: 'abc', kind: 'other' }, 'kind: Send one of chat, embedding.'],
    [{ name: 'abc', count: 1.5 }, 'count: Send a whole number.'],
    [{ name: 'abc', count: 0 }, 'count: Send more than 0.'],
    [{ name: 'abc', list: ['a', 'b'] }, 'list: Send at most 1 item.'],
    [{ name: 'abc', at: 'noon' }, 'at: Send a time such as 2026-11-23T09:30:00Z.'],
    [{ name: 'abc', own: 'b' }, 'own: Begin it with an a.'],
    [{ name: 'abc', more: 1 }, 'There is no field more; leave it out.'],
    ['text', 'Send an object, not a string.'],
  ];
  for (const [sent, said] of cases) {
    await assert.rejects(route.handle({ params: {}, query: {}, body: sent }, null, context), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.publicMessage, said);
      return true;
    });
  }
});
