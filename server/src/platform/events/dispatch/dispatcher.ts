/**
 * Consumers of events over any carrier. The carrier brings the events of a partition at least once and in the order of
 * the log; here each of them has its effect once, in the order of its key, or lies in the delivery store:
 *
 *   carrier -> attempt --ok--> inbox + position + effect, one transaction
 *                |  \--waits (an earlier event of the key failed, or is missing)--> held
 *                \--fails--> retrying --6 attempts--> dead --redrive--> retrying ... three times: parked
 *
 * An event that is resolved has those looked at that waited for it. The carrier's place moves on in every case, so one
 * event never stops those of other keys.
 */

import type { Database } from '#db';
import type { Clock, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry, Tracer } from '#telemetry';
import { partitionCount } from '../partition.ts';
import type { EventCarrier, EventConsumer, RunningSubscription } from '../types.ts';
import { defaultRetryDelaysMs } from './failure.ts';
import { createHandling, type Handling, type PartitionState } from './handling.ts';
import { dispatchMetrics } from './metrics.ts';
import { requireReadable } from './readable.ts';
import { createReplayRunner } from './replay-runner.ts';
import { createRetryRunner } from './retry-runner.ts';
import { createTurns } from './turns.ts';

export interface DispatcherDeps {
  readonly db: Database;
  readonly carrier: EventCarrier;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly tracer: Tracer;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface DispatcherSettings {
  /** Default 1,000. */
  readonly handlerDeadlineMs?: number;
  /** The waits after failed attempts; default 1 s, 5 s, 30 s, 2 min, 10 min, each up to a fifth longer at random. */
  readonly retryDelaysMs?: readonly number[];
  /** Default 500. */
  readonly retryPollMs?: number;
  /** How long a stored event stays with a process that died of it; default 30,000. */
  readonly leaseMs?: number;
  /** How long a version of a key may be missing before those behind it become dead letters; default an hour. */
  readonly gapLimitMs?: number;
}

export interface Dispatcher extends Lifecycle {
  readonly consumers: readonly EventConsumer[];
  /** Something in the delivery store, or a replay, may be due: a person asked for it. */
  wake(): void;
}

/** Nothing runs before `start`; `stop` finishes what is being handled and gives the partitions back. */
export function createDispatcher(
  deps: DispatcherDeps,
  consumers: readonly EventConsumer[],
  settings: DispatcherSettings = {},
): Dispatcher {
  requireOwnNames(consumers);
  const { db, clock, logger, tracer } = deps;
  const leaseMs = settings.leaseMs ?? 30_000;
  const pollMs = settings.retryPollMs ?? 500;
  const running = new Map<string, RunningSubscription>();
  const parts: { handling?: Handling } = {};
  const handlingOf = (): Handling => {
    if (parts.handling === undefined) throw new Error('the dispatcher is not put together yet');
    return parts.handling;
  };
  const runner = { db, logger, handling: handlingOf };
  const retries = createRetryRunner(runner, consumers, { pollMs, leaseMs, countEveryMs: 15_000 });
  const replays = createReplayRunner(runner, consumers, { pollMs, leaseMs });
  parts.handling = createHandling({
    db,
    clock,
    logger,
    tracer,
    metrics: dispatchMetrics(
      deps.metrics,
      () => lagsOf(running),
      () => retries.stored(),
    ),
    turns: createTurns(),
    random: deps.random ?? Math.random,
    requireReadable,
    handlerDeadlineMs: settings.handlerDeadlineMs ?? 1000,
    retryDelaysMs: settings.retryDelaysMs ?? defaultRetryDelaysMs,
    gapLimitMs: settings.gapLimitMs ?? 3_600_000,
    leaseMs,
    onStored: () => retries.wake(),
  });
  return {
    consumers,
    async start() {
      await retries.start();
      await replays.start();
      for (const consumer of consumers) {
        running.set(consumer.name, await subscribe(deps.carrier, consumer, handlingOf()));
      }
    },
    async stop() {
      const subscriptions = [...running.values()];
      running.clear();
      await Promise.all(subscriptions.map((subscription) => subscription.stop()));
      await Promise.all([retries.stop(), replays.stop()]);
    },
    wake() {
      retries.wake();
      replays.wake();
    },
  };
}

function requireOwnNames(consumers: readonly EventConsumer[]): void {
  const names = new Set(consumers.map(({ name }) => name));
  if (names.size !== consumers.length) throw new Error('two consumers of events have the same name');
}

async function subscribe(
  carrier: EventCarrier,
  consumer: EventConsumer,
  handling: Handling,
): Promise<RunningSubscription> {
  const states = new Map<number, PartitionState>();
  return carrier.subscribe({
    consumer: consumer.name,
    types: consumer.types,
    // The system's door takes what all partitions bring in few transactions (joint.ts).
    ...(consumer.door === 'tenant' ? {} : { sideBySide: partitionCount }),
    deliver(partition, events, mayHaveKilled) {
      const state = states.get(partition) ?? { suspicion: null };
      states.set(partition, state);
      return handling.deliver(consumer, events, state, mayHaveKilled === true);
    },
  });
}

function lagsOf(running: ReadonlyMap<string, RunningSubscription>): ReadonlyMap<string, number> {
  const lags = new Map<string, number>();
  for (const [consumer, { lag }] of running) if (lag !== null) lags.set(consumer, lag);
  return lags;
}
