import assert from 'node:assert/strict';
import { callsContract, createFixtureService, fixtureApi, testCall, testPrincipal } from '#testing';

const value = {
  amount: -(2n ** 80n),
  at: new Date('2026-01-01T00:00:00.001Z'),
  bytes: Uint8Array.of(0, 255, 10),
  slots: [1n, undefined],
};

callsContract(fixtureApi, {
  open: () => createFixtureService().service,
  examples: {
    echo: [
      { input: value, output: value },
      { input: { ...value, note: 'a\u0000\ud800"' }, output: { ...value, note: 'a\u0000\ud800"' } },
    ],
    add: [{ input: { amount: 5n }, output: ({ sum }) => assert.ok(sum >= 5n) }],
    count: [{ input: undefined, output: (count) => assert.ok(count >= 1) }],
    fail: [
      { input: { how: 'conflict' }, error: 'conflict' },
      { input: { how: 'limited' }, error: 'rate_limit_exceeded' },
    ],
    whoami: [{ input: undefined }],
    wait: [{ input: undefined, error: 'deadline_exceeded' }],
  },
  tests: {
    async 'an idempotent call has its effect once'(service) {
      const before = (await service.add({ amount: 0n }, testCall({ idempotencyKey: 'before' }))).sum;
      const key = testCall({ idempotencyKey: 'once' });
      assert.equal((await service.add({ amount: 7n }, key)).sum, before + 7n);
      assert.equal((await service.add({ amount: 7n }, key)).sum, before + 7n);
    },
    async 'one that is not is made once a call'(service) {
      const first = await service.count(undefined, testCall());
      assert.equal(await service.count(undefined, testCall()), first + 1);
    },
    async 'tenant, principal, trace and key reach the method'(service) {
      const principal = testPrincipal();
      const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
      const found = await service.whoami(
        undefined,
        testCall({ principal, traceparent, idempotencyKey: 'the-key' }),
      );
      assert.deepStrictEqual(found, {
        tenantId: principal.tenantId,
        kind: 'tenant',
        scopes: ['chat:create'],
        traceparent,
        idempotencyKey: 'the-key',
      });
      const system = { kind: 'system', name: 'purge' } as const;
      const own = await service.whoami(undefined, testCall({ principal: system, idempotencyKey: 'k' }));
      assert.deepStrictEqual([own.tenantId, own.kind], [null, 'system']);
    },
    async 'what is no AppError comes out as internal_error without its insides'(service) {
      await assert.rejects(
        service.fail({ how: 'unknown' }, testCall()),
        (error: Error) =>
          'code' in error && error.code === 'internal_error' && !error.message.includes('secret'),
      );
    },
    async "a caller's own deadline is shorter than the method's"(service) {
      const startedAt = performance.now();
      await assert.rejects(service.wait(undefined, testCall({ timeoutMs: 40 })), {
        code: 'deadline_exceeded',
      });
      assert.ok(performance.now() - startedAt < 300);
    },
    async 'a caller without time, gone, or refused by now does not call at all'(service) {
      const before = await service.count(undefined, testCall());
      await assert.rejects(service.count(undefined, testCall({ timeoutMs: 0 })), {
        code: 'deadline_exceeded',
      });
      const signal = AbortSignal.abort();
      await assert.rejects(service.count(undefined, testCall({ signal })), { code: 'client_closed' });
      assert.equal(await service.count(undefined, testCall()), before + 1);
    },
  },
});
