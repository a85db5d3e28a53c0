import { createClusterVerifier, createReceiver, type ServedApi } from '#calls';
import { type Authenticator, createBodyBudget, createHttpServer, type RelayRoute, type Route } from '#http';
import { AppError, type Clock, type Logger, silentLogger, systemClock } from '#kernel';

/** A secret that no cluster has. */
export const testSecrets = { current: 'a secret for the tests of calls between processes', previous: null };

export interface TestListener {
  /** `http://127.0.0.1:port` */
  readonly origin: string;
  close(): Promise<void>;
}

export interface TestListenerOptions {
  readonly routes?: readonly Route[];
  readonly relays?: readonly RelayRoute[];
  readonly authenticator?: Authenticator;
  readonly logger?: Logger;
  readonly readForwarded?: Parameters<typeof createHttpServer>[0]['readForwarded'];
}

const nobody: Authenticator = {
  tenant() {
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  },
  operator() {
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  },
};

/** A listener on a free port of the loopback, as `app/` makes them. */
export async function startListener(options: TestListenerOptions): Promise<TestListener> {
  const nothing = { add: () => undefined, observe: () => undefined };
  const server = createHttpServer(
    {
      authenticator: options.authenticator ?? nobody,
      idempotency: { once: async (_scope, run) => run(async (_tx, reply) => ({ kept: reply })) },
      budget: createBodyBudget(1024 * 1024, 4 * 1024 * 1024),
      gate: () => null,
      logger: options.logger ?? silentLogger,
      accessLog: null,
      metrics: { requests: nothing, seconds: nothing },
      ...(options.readForwarded ? { readForwarded: options.readForwarded } : {}),
    },
    {
      routes: options.routes ?? [],
      relays: options.relays ?? [],
      headersTimeoutMs: 5_000,
      requestTimeoutMs: 10_000,
      keepAliveTimeoutMs: 5_000,
      maximumHeaderBytes: 16 * 1024,
    },
  );
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    origin: `http://127.0.0.1:${port}`,
    async close() {
      const drained = server.drain();
      server.destroy();
      await drained;
    },
  };
}

/** The receiving side of calls between processes, for services of the test. */
export function startReceiver(
  services: readonly ServedApi[],
  options: { readonly clock?: Clock; readonly logger?: Logger; readonly secrets?: typeof testSecrets } = {},
): Promise<TestListener> {
  const { clock = systemClock, logger = silentLogger, secrets = testSecrets } = options;
  const verifier = createClusterVerifier(secrets, clock);
  return startListener({ logger, relays: [createReceiver({ verifier, clock, logger }, services)] });
}
