/** Two whole processes on one PostgreSQL and one Redis: what one revokes, the other refuses within a second. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { type StoaProcess, startStoa, usesPostgres } from './stoa-process.ts';
import { createFaultProxy, type FaultProxy } from '../../server/src/testing/fault-proxy.ts';

const rounds = 10;
const withinMs = 1_000;
const savedShape = z.object({
  urls: z.object({ tenant: z.string(), operator: z.string(), system: z.string(), migration: z.string() }),
});
const readinessShape = z.object({ degraded: z.array(z.string()).optional() });

function describeRevocation(): void {
  let gate: FaultProxy;
  let first: StoaProcess;
  let second: StoaProcess;

  before(async () => {
    const redis = new URL(process.env['STOA_TEST_REDIS_URL'] ?? 'redis://127.0.0.1:6379');
    gate = await createFaultProxy({ host: redis.hostname, port: Number(redis.port || 6379) });
    const shared = {
      STOA_REDIS_URL: `redis://127.0.0.1:${gate.port}`,
      STOA_MASTER_KEY: randomBytes(32).toString('base64'),
    };
    first = await startStoa({ env: shared });
    const { urls } = savedShape.parse(
      JSON.parse(readFileSync(join(first.dataDirectory, 'database-urls.json'), 'utf8')),
    );
    second = await startStoa({
      env: {
        ...shared,
        STOA_DATABASE_URL: urls.tenant,
        STOA_OPERATOR_DATABASE_URL: urls.operator,
        STOA_SYSTEM_DATABASE_URL: urls.system,
        STOA_MIGRATION_DATABASE_URL: urls.migration,
      },
    });
  });
  after(async () => {
    await second.dispose();
    await first.dispose();
    await gate.set({ isShut: true });
  });

  const elapsed = async (what: string, holds: () => Promise<boolean>): Promise<number> => {
    const startMs = performance.now();
    while (!(await holds())) {
      assert.ok(performance.now() - startMs < 20_000, `it never came about: ${what}`);
      await pause(2);
    }
    return performance.now() - startMs;
  };

  /** Revokes a key in one process; milliseconds from the answer until the other one refuses it. */
  const revoked = async (): Promise<number> => {
    const { tenantId, apiKey, keyId } = await first.newTenant('revoked');
    const status = async (): Promise<number> =>
      (await second.call('GET', '/v1/models', { key: apiKey })).status;
    assert.equal(await status(), 200);
    const answer = await first.call('DELETE', `/control/v1/tenants/${tenantId}/keys/${keyId}`);
    assert.equal(answer.status, 200, answer.text);
    return elapsed('the key is refused', async () => (await status()) === 401);
  };
  const measured = async (how: string): Promise<number[]> => {
    const took: number[] = [];
    for (let round = 0; round < rounds; round++) took.push(await revoked());
    took.sort((a, b) => a - b);
    const [least = '', middle = '', most = ''] = [took[0], took[rounds / 2], took[rounds - 1]].map((ms) =>
      (ms ?? Infinity).toFixed(0),
    );
    console.log(`revocation, ${how}: ${least} to ${most} ms, median ${middle} ms, ${rounds} rounds`);
    return took;
  };
  const isDegraded = async (stoa: StoaProcess): Promise<boolean> => {
    const answer = await stoa.call('GET', '/readyz');
    assert.equal(answer.status, 200, 'a lost Redis makes nobody unready');
    return readinessShape.parse(answer.json).degraded?.includes('redis') === true;
  };
  const bothAre = (degraded: boolean) => async (): Promise<boolean> =>
    (await isDegraded(first)) === degraded && (await isDegraded(second)) === degraded;

  test('with Redis a revocation reaches the other process long before its next poll', async () => {
    await elapsed('both are connected', bothAre(false));
    const took = await measured('pushed by Redis');
    assert.ok(took.every((ms) => ms < withinMs));
    // The poll comes each 500 ms, so half of all revocations would take 250 ms and more by it.
    assert.ok((took[rounds / 2] ?? Infinity) < 200);
  });

  test('a token that one process made is good in the other, and its revocation reaches it there within a second', async () => {
    const { apiKey } = await first.newTenant('with tokens');
    const made = await first.call('POST', '/v1/tokens', { key: apiKey, body: {} });
    const { id, token } = z.object({ id: z.string(), token: z.string() }).parse(made.json);
    const status = async (): Promise<number> =>
      (await second.call('GET', '/v1/models', { key: token })).status;
    assert.equal(await status(), 200);
    const body = { token_id: id };
    assert.equal((await first.call('POST', '/v1/tokens/revoke', { key: apiKey, body })).status, 200);
    const ms = await elapsed('the token is refused', async () => (await status()) === 401);
    console.log(`revocation of a token, pushed by Redis: ${ms.toFixed(0)} ms`);
    assert.ok(ms < withinMs);
    const keySets = await Promise.all(
      [first, second].map((stoa) => stoa.call('GET', '/.well-known/jwks.json')),
    );
    assert.equal(keySets[0]?.text, keySets[1]?.text);
  });

  test('with Redis stopped the poll brings it within a second, and readiness says so', async () => {
    await gate.set({ isShut: true });
    await elapsed('both say that Redis is away', bothAre(true));
    const took = await measured('Redis stopped');
    assert.ok(took.every((ms) => ms < withinMs));
  });

  test('a process that starts while Redis is away serves, and all push again when it is back', async () => {
    await second.stop();
    await second.restart();
    assert.equal(await isDegraded(second), true);
    assert.ok((await revoked()) < withinMs);
    await gate.set({});
    const ms = await elapsed('both are connected', bothAre(false));
    console.log(`Redis back: both processes connected after ${ms.toFixed(0)} ms`);
    const took = await measured('Redis back');
    assert.ok(took.every((each) => each < withinMs) && (took[rounds / 2] ?? Infinity) < 200);
  });
}

if (usesPostgres) {
  describe('revocation in two processes', describeRevocation);
} else {
  describe('revocation in two processes', {
    skip: 'needs PostgreSQL and Redis: npm run test:services',
  }, () => {});
}
