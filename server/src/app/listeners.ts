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
}

export interface Listeners {
  /** Opens both; the addresses have the ports that were really taken. */
  listen(): Promise<{ readonly baseUrl: string; readonly adminUrl: string }>;
  /** Each answer closes its connection; new ones are still taken. */
  beginDrain(): void;
  drain(): Promise<void>;
  destroy(): void;
}

/** The two listeners: tenants on one, the operator on the other. They share the budget of bodies in flight. */
export function createListeners(deps: ListenersDeps): Listeners {
  const { settings, logger, readiness } = deps;
  const budget = createBodyBudget(settings.bodyLimitBytes, settings.bodiesInFlightBytes);
  const metrics = {
    requests: deps.metrics.counter(httpMetrics.requests),
    seconds: deps.metrics.histogram(httpMetrics.seconds),
  };
  const isChatty = settings.logLevel === 'info' || settings.logLevel === 'debug';
  const accessLog = isChatty ? (line: AccessLine): void => logger.info(line, 'request') : null;
  const create = (routes: readonly Route[]): HttpServer =>
    createHttpServer(
      {
        authenticator: deps.authenticator,
        idempotency: deps.idempotency,
        gate: () => closureOf(readiness),
        budget,
        logger,
        accessLog,
        metrics,
      },
      {
        routes,
        headersTimeoutMs: settings.headersTimeoutMs,
        requestTimeoutMs: settings.requestTimeoutMs,
        keepAliveTimeoutMs: settings.keepAliveTimeoutMs,
        maximumHeaderBytes: settings.headerLimitBytes,
      },
    );
  const tenants = create(deps.publicRoutes);
  const operator = create(deps.adminRoutes);
  return {
    async listen() {
      // The tenants' last: what follows at once is readiness, and it is told there.
      const adminAddress = await operator.listen(settings.adminListen);
      const publicAddress = await tenants.listen(settings.listen);
      return {
        baseUrl: settings.publicUrl ?? urlOf(settings.listen.host, publicAddress.port),
        adminUrl: urlOf(settings.adminListen.host, adminAddress.port),
      };
    },
    beginDrain() {
      tenants.beginDrain();
      operator.beginDrain();
    },
    async drain() {
      await Promise.all([tenants.drain(), operator.drain()]);
    },
    destroy() {
      tenants.destroy();
      operator.destroy();
    },
  };
}

/** Where a process on this machine reaches a listener: a wildcard address is reached over loopback. */
function urlOf(host: string, port: number): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
}
