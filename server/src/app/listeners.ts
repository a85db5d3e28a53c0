import type { Settings } from '@stoa/contracts';
import {
  type AccessLine,
  type Authenticator,
  createBodyBudget,
  createHttpServer,
  type Denied,
  httpMetrics,
  type HttpServer,
  type HttpServerDeps,
  LoadShedding,
  type IdempotencyStore,
  type RequestLimiter,
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
  /** By default nothing is limited. */
  readonly limiter?: RequestLimiter;
  readonly onDenied?: (denied: Denied) => void;
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
  /** Where tenants reach this process; null until it listens. */
  readonly baseUrl: string | null;
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
  // The operator has to get through when tenants do not, and what a gateway let pass is not refused behind it.
  const shedding = createShedding(deps);
  const tenants = create(deps.publicRoutes, { relays: cluster.forwards, shedding });
  const operator = create(deps.adminRoutes);
  // What tenants can call here, as the gateway forwards it, and no forwarding from here: so no request goes in circles.
  const inner = cluster.listener === null ? null : create(deps.publicRoutes, cluster.listener);
  const all = [tenants, operator, ...(inner ? [inner] : [])];
  let clusterUrl: string | null = null;
  let baseUrl: string | null = null;
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
      baseUrl = settings.publicUrl ?? urlOf(settings.listen.host, publicAddress.port);
      return { baseUrl, adminUrl: urlOf(settings.adminListen.host, adminAddress.port) };
    },
    get clusterUrl() {
      return clusterUrl;
    },
    get baseUrl() {
      return baseUrl;
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

function createShedding({ settings, metrics }: ListenersDeps): NonNullable<HttpServerDeps['shedding']> {
  const load = new LoadShedding(settings.shedDelayMs);
  metrics.observedGauge(httpMetrics.queueDelay, () => load.delayMs / 1000);
  metrics.observedGauge(httpMetrics.overloaded, () => (load.isOverloaded ? 1 : 0));
  return { load, refusals: metrics.counter(httpMetrics.shed) };
}

type InnerParts = Partial<Pick<ClusterListener, 'relays' | 'readForwarded'>> &
  Pick<HttpServerDeps, 'shedding'>;

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
  return (routes, { relays = [], readForwarded, shedding } = {}) =>
    createHttpServer(
      {
        authenticator: deps.authenticator,
        idempotency: deps.idempotency,
        ...(deps.limiter ? { limiter: deps.limiter } : {}),
        ...(deps.onDenied ? { onDenied: deps.onDenied } : {}),
        gate: () => closureOf(readiness),
        budget,
        logger,
        accessLog,
        metrics,
        ...(readForwarded ? { readForwarded } : {}),
        ...(shedding ? { shedding } : {}),
      },
      {
        routes,
        relays,
        headersTimeoutMs: settings.headersTimeoutMs,
        requestTimeoutMs: settings.requestTimeoutMs,
        keepAliveTimeoutMs: settings.keepAliveTimeoutMs,
        maximumHeaderBytes: settings.headerLimitBytes,
        // What comes to the cluster's listener says itself whose it is, signed.
        trustedProxies: readForwarded ? [] : (settings.trustedProxies ?? []),
      },
    );
}

/** Where a process on this machine reaches a listener: a wildcard address is reached over loopback. */
function urlOf(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
