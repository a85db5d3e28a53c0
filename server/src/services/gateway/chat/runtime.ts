import type { Clock, Logger } from '#kernel';
import type { ModelProviders } from '#models';
import type { PricesApi } from '#prices';
import type { QuotasApi } from '#quotas';
import type { RegistryApi } from '#registry';
import type { Tracer } from '#telemetry';
import type { Gathering } from './answers/gathering.ts';
import type { Circuits } from './attempts/circuits.ts';
import type { GatewayMetrics } from '../metrics.ts';
import type { RunningRequests } from './running.ts';
import type { Sweep } from './sweep.ts';
import type { Decider, Journal } from '../types.ts';

/** The ports of the chat path, and the state that all its requests share. */
export interface Runtime {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tracer: Tracer;
  readonly providers: ModelProviders;
  readonly registry: Pick<RegistryApi, 'snapshot' | 'refresh' | 'policyFor'>;
  readonly prices: PricesApi;
  readonly quotas: QuotasApi;
  readonly decider: Decider;
  readonly journal: Journal;
  readonly metrics: GatewayMetrics;
  readonly circuits: Circuits;
  readonly sweep: Sweep;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
  readonly running: RunningRequests;
  readonly gathering: Gathering;
  /** True once no new request is taken. */
  isDraining: boolean;
}
