import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClusterSigner, createDestinations, remoteService, serveApi } from '#calls';
import { createOutboundClient } from '#http';
import { AppError, silentLogger, systemClock } from '#kernel';
import { createFixtureService, fixtureApi, testCall, testSecrets } from '#testing';
import { createCluster } from './cluster.ts';
import { loadSettings } from './config.ts';
import { createListeners } from './listeners.ts';
import { plainRoutes } from './plain-routes.ts';
import { createReadiness } from './readiness.ts';

const nothing = { add: () => undefined, observe: () => undefined, set: () => undefined };
const refuse = (): never => {
  throw new AppError('invalid_api_key', 'The API key is not valid.');
};

test('internal calls are answered on the listener of the cluster and on no other', async () => {
  const { settings } = loadSettings(
    {
      STOA_LISTEN: '127.0.0.1:0',
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
      STOA_CLUSTER_LISTEN: '127.0.0.1:0',
      STOA_CLUSTER_SECRET: testSecrets.current,
      STOA_LOG_LEVEL: 'silent',
    },
    { rootDirectory: '/' },
  );
  const outbound = createOutboundClient();
  const { service, state } = createFixtureService();
  const shared = { outbound, clock: systemClock, logger: silentLogger };
  const services = [serveApi(fixtureApi, service)];
  const readiness = createReadiness();
  readiness.phase = 'ready';
  const renderMetrics = async () => ({ contentType: 'text/plain', content: '' });
  const plain = plainRoutes({ readiness, openapi: () => ({}), renderMetrics });
  const listeners = createListeners({
    settings,
    authenticator: { tenant: refuse, operator: refuse },
    idempotency: { once: async (_scope, run) => run(async (_tx, reply) => ({ kept: reply })) },
    logger: silentLogger,
    metrics: {
      counter: () => nothing,
      histogram: () => nothing,
      gauge: () => nothing,
      observedGauge: () => undefined,
    },
    readiness,
    publicRoutes: plain.public,
    adminRoutes: plain.admin,
    cluster: createCluster({ ...shared, settings, roles: ['gateway'], services }),
  });
  const { baseUrl, adminUrl } = await listeners.listen();
  const { clusterUrl } = listeners;
  try {
    assert.ok(clusterUrl !== null);
    const signer = createClusterSigner(testSecrets, systemClock);
    const at = (origin: string) =>
      remoteService(fixtureApi, createDestinations('fixture', [origin], systemClock), { ...shared, signer });
    assert.equal(await at(clusterUrl).count(undefined, testCall()), 1);
    for (const origin of [baseUrl, adminUrl]) {
      await assert.rejects(at(origin).count(undefined, testCall()), { code: 'internal_error' });
    }
    assert.equal(state.calls, 1);
    const live = await outbound.requestJson({
      method: 'GET',
      url: `${clusterUrl}/livez`,
      headers: [],
      body: null,
      timeoutMs: 5_000,
      maxBodyBytes: 1_000,
      signal: new AbortController().signal,
    });
    assert.ok(live.outcome === 'answered' && live.status === 200, 'probes inside the cluster get no answer');
  } finally {
    listeners.destroy();
    await listeners.drain();
    await outbound.close();
  }
});
