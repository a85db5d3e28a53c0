import type { Settings } from '@stoa/contracts';
import {
  type AccessLine,
  type Authenticator,
  createBodyBudget,
  createHttpServer,
  httpMetrics,
  type HttpServer,
  type IdempotencyStore,
  type Route,
} from '#http';
import type { Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import type { Cluster, ClusterListener } from './cluster.ts';
import { closureOf } from './plain-routes.ts';
import type { Readiness } from './readiness.ts';

export interface ListenersDeps {
  readonly settings: Settings;
  readonly authenticator: Authenticator;
  readonly idempotency: IdempotencyStore;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly readiness: Readiness;
  readonly publicRoutes: readonly Route[];
  readonly adminRoutes: readonly Route[];
  readonly cluster: Pick<Cluster, 'forwards' | 'listener'>;
}

export interface Listeners {
  /** Opens them all; the addresses have the ports that were really taken. */
  listen(): Promise<{ readonly baseUrl: string; readonly adminUrl: string }>;
  /** Where other processes of the cluster call this one; null until it listens, and where it does not. */
  readonly clusterUrl: string | null;
  /** Each answer closes its connection; new ones are still taken. */
  beginDrain(): void;
  drain(): Promise<void>;
  destroy(): void;
}

/**
 * The listeners: tenants on one, the operator on another, and the processes of the cluster on a third where its address is
 * set. They share the budget of bodies in flight.
 */
export function createListeners(deps: ListenersDeps): Listeners {
  const { settings, logger, cluster } = deps;
  const create = createServers(deps);
  const tenants = create(deps.publicRoutes, { relays: cluster.forwards });
  const operator = create(deps.adminRoutes);
  // What tenants can call here, as the gateway forwards it, and no forwarding from here: so no request goes in circles.
  const inner = cluster.listener === null ? null : create(deps.publicRoutes, cluster.listener);
  const all = [tenants, operator, ...(inner ? [inner] : [])];
  let clusterUrl: string | null = null;
  return {
    async listen() {
      if (inner && cluster.listener) {
        const { address } = cluster.listener;
        clusterUrl = urlOf(address.host, (await inner.listen(address)).port);
        logger.info({ clusterUrl }, 'listening for the cluster');
      }
      // The tenants' last: what follows at once is readiness, and it is told there.
      const adminAddress = await operator.listen(settings.adminListen);
      const publicAddress = await tenants.listen(settings.listen);
      return {
        baseUrl: settings.publicUrl ?? urlOf(settings.listen.host, publicAddress.port),
        adminUrl: urlOf(settings.adminListen.host, adminAddress.port),
      };
    },
    get clusterUrl() {
      return clusterUrl;
    },
    beginDrain() {
      for (const server of all) server.beginDrain();
    },
    async drain() {
      await Promise.all(all.map((server) => server.drain()));
    },
    destroy() {
      for (const server of all) server.destroy();
    },
  };
}

type InnerParts = Partial<Pick<ClusterListener, 'relays' | 'readForwarded'>>;

/** What the listeners have in common. */
function createServers(deps: ListenersDeps): (routes: readonly Route[], inner?: InnerParts) => HttpServer {
  const { settings, logger, readiness } = deps;
  const budget = createBodyBudget(settings.bodyLimitBytes, settings.bodiesInFlightBytes);
  const metrics = {
    requests: deps.metrics.counter(httpMetrics.requests),
    seconds: deps.metrics.histogram(httpMetrics.seconds),
  };
  const isChatty = settings.logLevel === 'info' || settings.logLevel === 'debug';
  const accessLog = isChatty ? (line: AccessLine): void => logger.info(line, 'request') : null;
  return (routes, { relays = [], readForwarded } = {}) =>
    createHttpServer(
      {
        authenticator: deps.authenticator,
        idempotency: deps.idempotency,
        gate: () => closureOf(readiness),
        budget,
        logger,
        accessLog,
        metrics,
        ...(readForwarded ? { readForwarded } : {}),
      },
      {
        routes,
        relays,
        headersTimeoutMs: settings.headersTimeoutMs,
        requestTimeoutMs: settings.requestTimeoutMs,
        keepAliveTimeoutMs: settings.keepAliveTimeoutMs,
        maximumHeaderBytes: settings.headerLimitBytes,
      },
    );
}

/** Where a process on this machine reaches a listener: a wildcard address is reached over loopback. */
function urlOf(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
