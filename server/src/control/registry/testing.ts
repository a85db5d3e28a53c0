import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Broadcast } from '#cache';
import type { Database } from '#db';
import { createOutboundClient } from '#http';
import { createSealer, type Sealer, silentLogger, systemClock } from '#kernel';
import { type ModelProvider, openAiCompatible } from '#models';
import type { MetricRegistry } from '#telemetry';
import { createRegistry, type RegistryModule, type RegistrySettings } from './index.ts';
import type { PriceOf } from './models.ts';

/** A server with `GET /v1/models` whose list, or outage, the test sets. */
export interface ListingServer {
  readonly baseUrl: string;
  ids: readonly string[] | 'down';
  /** The Authorization headers it saw, newest last. */
  readonly credentials: (string | undefined)[];
  close(): Promise<void>;
}

export async function openListingServer(ids: readonly string[]): Promise<ListingServer> {
  const credentials: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    credentials.push(request.headers.authorization);
    response.statusCode = state.ids === 'down' ? 503 : 200;
    response.setHeader('content-type', 'application/json');
    const listed = state.ids === 'down' ? [] : state.ids;
    response.end(
      JSON.stringify({
        object: 'list',
        data: listed.map((id) => ({ id, object: 'model', created: 1_700_000_000, owned_by: 'upstream' })),
      }),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const state: ListingServer = {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    ids,
    credentials,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return state;
}

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};

export interface TestRegistry extends RegistryModule {
  close(): Promise<void>;
}

/** A registry as one process has it, over the real client. Several on one database are several processes. */
export function openRegistry(
  db: Database,
  options: Partial<RegistrySettings> & {
    readonly sealer?: Sealer;
    readonly priceOf?: PriceOf;
    readonly environment?: Readonly<Record<string, string>>;
    readonly broadcast?: Broadcast;
  } = {},
): TestRegistry {
  const outbound = createOutboundClient();
  const engine: ModelProvider = openAiCompatible({ outbound, clock: systemClock });
  const registry = createRegistry(
    {
      db,
      providers: new Map([[engine.kind, engine]]),
      sealer: options.sealer ?? createSealer(randomBytes(32)),
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      priceOf: options.priceOf ?? (() => null),
      readEnvironment: (name) => options.environment?.[name],
      ...(options.broadcast ? { broadcast: options.broadcast } : {}),
    },
    {
      openai: options.openai ?? null,
      builtIn: options.builtIn ?? [{ provider: 'extractive', id: 'extractive', kind: 'chat' }],
      ...(options.pollEveryMs === undefined ? {} : { pollEveryMs: options.pollEveryMs }),
      ...(options.firstListingWaitMs === undefined ? {} : { firstListingWaitMs: options.firstListingWaitMs }),
    },
  );
  return {
    ...registry,
    async close() {
      await registry.lifecycle.stop();
      await outbound.close();
    },
  };
}

/** Waits until a condition holds; fails after 10 s. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`it never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
