import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createServer, type Server } from 'node:tls';
import { asTenantId, silentLogger, systemClock } from '#kernel';
import { hasTestRedis, openTestRedis, selfSigned, type TestRedis } from '#testing';
import { type CacheModule, createCache } from './index.ts';

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const metrics = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};
const hostName = 'redis.stoa.test';
const at = { tenantId: asTenantId(randomUUID()), key: 'k' };

function describeTls(): void {
  let redis: TestRedis;
  let server: Server;
  let port = 0;
  const folder = mkdtempSync(join(tmpdir(), 'stoa-redis-tls-'));
  const fileOf = (name: string): string => encodeURIComponent(join(folder, name));
  const sockets = new Set<Socket>();
  const [own, client, stranger] = [selfSigned(hostName), selfSigned('client'), selfSigned(hostName)];

  before(async () => {
    redis = await openTestRedis();
    for (const [name, { cert, key }] of Object.entries({ own, client, stranger })) {
      writeFileSync(join(folder, `${name}.pem`), cert);
      writeFileSync(join(folder, `${name}.key`), key, { mode: 0o600 });
    }
    const target = new URL(redis.url);
    // TLS in front of the server, which demands the client's certificate as Redis does.
    server = createServer(
      { ...own, ca: [client.cert], requestCert: true, rejectUnauthorized: true },
      (inner) => {
        const outer = connect({ host: target.hostname, port: Number(target.port || 6379) });
        for (const socket of [inner, outer]) {
          sockets.add(socket);
          socket.on('error', () => socket.destroy());
        }
        inner.pipe(outer).pipe(inner);
      },
    );
    server.on('tlsClientError', () => undefined);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address: AddressInfo | string | null = server.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
  });
  after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
    rmSync(folder, { recursive: true });
    await redis.close();
  });

  const opened = async (options: string): Promise<CacheModule> => {
    const deps = { clock: systemClock, logger: silentLogger, metrics, random: Math.random };
    const redisUrl = `rediss://127.0.0.1:${port}?${options}`;
    const module = createCache(deps, { redisUrl, prefix: redis.prefix, deadlineMs: 5_000 });
    await module.lifecycle.start();
    return module;
  };
  const identity = `cert=${fileOf('client.pem')}&key=${fileOf('client.key')}`;

  test('rediss: connects with the authority, the name and the client certificate that the URL states', async () => {
    const module = await opened(`ca=${fileOf('own.pem')}&servername=${hostName}&${identity}`);
    assert.equal(module.health?.isHealthy(), true);
    assert.equal(await module.cache.set({ ...at, value: 'sealed', ttlMs: 60_000 }), true);
    assert.equal(await module.cache.get(at), 'sealed');
    await module.lifecycle.stop();
  });

  for (const [why, options] of [
    ['an authority that did not sign it', `ca=${fileOf('stranger.pem')}&servername=${hostName}&${identity}`],
    ['another name', `ca=${fileOf('own.pem')}&servername=other.test&${identity}`],
    ['the authorities of the world', `servername=${hostName}&${identity}`],
    ['an address that it does not state', `ca=${fileOf('own.pem')}&${identity}`],
    ['no client certificate', `ca=${fileOf('own.pem')}&servername=${hostName}`],
  ] as const) {
    test(`rediss: does not talk to a server by ${why}`, async () => {
      const module = await opened(options);
      assert.equal(module.health?.isHealthy(), false);
      assert.equal(await module.cache.get(at), null);
      await module.lifecycle.stop();
    });
  }

  test('a file that cannot be read is told at the start', async () => {
    await assert.rejects(opened('ca=/nowhere/ca.pem'), /its ca, \/nowhere\/ca\.pem, cannot be read/);
  });
}

if (hasTestRedis()) {
  describe('Redis by TLS', describeTls);
} else {
  describe('Redis by TLS', { skip: 'needs Redis: npm run test:services' }, () => {});
}
