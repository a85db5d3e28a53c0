import type { RequestCompletedV1 } from '@stoa/contracts';
import type { ProviderFault } from '#models';
import type { MetricRegistry } from '#telemetry';
import type { Circuits } from './chat/attempts/circuits.ts';

/** What the chat path counts. Labels are bounded: endpoints, outcomes, codes and kinds are tables, providers the operator's. */
export interface GatewayMetrics {
  requestEnded(record: RequestCompletedV1, durationMs: number, firstTokenMs: number | null): void;
  attemptEnded(provider: string, fault: ProviderFault['kind'] | null): void;
}

const secondsBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 600];

/** @param running how many requests run now */
export function gatewayMetrics(
  registry: MetricRegistry,
  circuits: Circuits,
  running: () => number,
): GatewayMetrics {
  const requests = registry.counter({
    name: 'stoa_gateway_requests_total',
    help: 'Requests to models by endpoint, outcome and error code (empty where there is none)',
    labels: ['endpoint', 'outcome', 'code'],
  });
  const duration = registry.histogram({
    name: 'stoa_gateway_request_duration_seconds',
    help: 'Time from a request to its last byte',
    labels: ['endpoint'],
    buckets: secondsBuckets,
  });
  const firstToken = registry.histogram({
    name: 'stoa_gateway_time_to_first_token_seconds',
    help: 'Time from a request to the first frame of its stream',
    buckets: secondsBuckets,
  });
  const attempts = registry.counter({
    name: 'stoa_gateway_attempts_total',
    help: 'Calls of providers by result: succeeded, or the kind of fault',
    labels: ['provider', 'result'],
  });
  const tokens = registry.counter({
    name: 'stoa_gateway_tokens_total',
    help: 'Tokens by kind; the kinds within input and output are counted in those too',
    labels: ['kind'],
  });
  const cost = registry.counter({
    name: 'stoa_gateway_cost_dollars_total',
    help: 'Cost of priced requests in USD, rounded: for trends, never for invoices',
  });
  registry.observedGauge({ name: 'stoa_gateway_running_requests', help: 'Requests that run now' }, running);
  registry.observedGauge(
    { name: 'stoa_gateway_circuits', help: 'Circuits by the state of their breaker', labels: ['state'] },
    () => Object.entries(circuits.countByState()).map(([state, value]) => ({ value, labels: { state } })),
  );
  return {
    requestEnded(record, durationMs, firstTokenMs) {
      const { endpoint, outcome, usage } = record;
      requests.add(1, { endpoint, outcome, code: record.error?.code ?? '' });
      duration.observe(durationMs / 1_000, { endpoint });
      if (firstTokenMs !== null) firstToken.observe(firstTokenMs / 1_000);
      if (usage.input_tokens > 0) tokens.add(usage.input_tokens, { kind: 'input' });
      if (usage.output_tokens > 0) tokens.add(usage.output_tokens, { kind: 'output' });
      if (usage.cached_input_tokens > 0) tokens.add(usage.cached_input_tokens, { kind: 'cached_input' });
      if (usage.reasoning_tokens > 0) tokens.add(usage.reasoning_tokens, { kind: 'reasoning' });
      if (record.cost_femto !== null) cost.add(Number(record.cost_femto) / 1e15);
    },
    attemptEnded: (provider, fault) => attempts.add(1, { provider, result: fault ?? 'succeeded' }),
  };
}
