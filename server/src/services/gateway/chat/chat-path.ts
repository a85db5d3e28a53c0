import type { Route } from '#http';
import type { Clock, HealthPart, Logger } from '#kernel';
import type { ModelProviders } from '#models';
import type { PricesApi } from '#prices';
import type { QuotasApi } from '#quotas';
import type { RegistryApi } from '#registry';
import type { MetricRegistry, Tracer } from '#telemetry';
import { Gathering } from './answers/gathering.ts';
import { Circuits } from './attempts/circuits.ts';
import { gatewayMetrics } from '../metrics.ts';
import { modelRoutes } from './routes.ts';
import { RunningRequests } from './running.ts';
import type { Runtime } from './runtime.ts';
import { Sweep } from './sweep.ts';
import type { Decider, Journal } from '../types.ts';

export interface ChatPathDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tracer: Tracer;
  readonly metrics: MetricRegistry;
  readonly providers: ModelProviders;
  readonly registry: Pick<RegistryApi, 'snapshot' | 'refresh' | 'policyFor'>;
  readonly prices: PricesApi;
  readonly quotas: QuotasApi;
  readonly decider: Decider;
  readonly journal: Journal;
  /** 0 (included) to 1 (excluded), for the jitter of retries; default Math.random. */
  readonly random?: () => number;
}

export interface ChatPath {
  readonly routes: readonly Route[];
  readonly health: HealthPart;
  /** Deadlines are looked at while it runs; a test ticks it by itself. */
  readonly sweep: Sweep;
  /** Takes no more requests; resolves when those that run are over, or were ended at the deadline. */
  drain(deadlineMs: number): Promise<void>;
}

/** The path of a chat, an embedding: everything between the edge and the providers. */
export function createChatPath(deps: ChatPathDeps): ChatPath {
  const circuits = new Circuits(deps.clock);
  const sweep = new Sweep(deps.clock);
  const running = new RunningRequests();
  const runtime: Runtime = {
    ...deps,
    random: deps.random ?? Math.random,
    metrics: gatewayMetrics(deps.metrics, circuits, () => running.size),
    circuits,
    sweep,
    running,
    gathering: new Gathering(),
    isDraining: false,
  };
  return {
    routes: modelRoutes(runtime),
    health: { name: 'providers', isHealthy: () => circuits.countByState().open === 0 },
    sweep,
    async drain(deadlineMs) {
      // Until the deadline, what still comes over open connections is served: a refusal would lose it.
      const closing = setTimeout(() => {
        runtime.isDraining = true;
      }, deadlineMs);
      await running.drain(deadlineMs);
      clearTimeout(closing);
      runtime.isDraining = true;
    },
  };
}
