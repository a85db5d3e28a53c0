import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import type { CarrierSubscription, EventCarrier, RunningSubscription } from '../types.ts';
import { ConsumerFeed, type FeedCounts } from './consumer-feed.ts';
import type { NatsLink } from './link.ts';

export interface NatsCarrierDependencies {
  readonly link: NatsLink;
  readonly db: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Passes wake-ups on: the relay of this process, where it has one. */
  readonly wakeRelay?: () => void;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface NatsCarrierSettings {
  /** After this time without renewal the partitions of a process are free for others, 1,000 and up; default 10,000 ms. */
  readonly leaseMs?: number;
  /** How long nothing may come before a reader asks whether that is right, 1,000 and up; default 5,000 ms. */
  readonly watchMs?: number;
}

export interface CarrierState {
  readonly consumer: string;
  readonly partitions: readonly number[];
  readonly lag: number | null;
  /** Lanes whose reading fails again and again at one place, 0 to 8, more where partitions are read for by themselves. */
  readonly stuckLanes: number;
  readonly counts: FeedCounts;
}

export interface NatsCarrier extends EventCarrier {
  /** What each consumer's feed did since the process started; those that have stopped keep their counts. */
  state(): readonly CarrierState[];
}

function noCounts(): FeedCounts {
  return {
    rebuilt: { session: 0, failed: 0, stream_changed: 0, purged: 0, stalled: 0 },
    fromLog: 0,
    lost: 0,
    redelivered: 0,
  };
}

/**
 * The carrier over JetStream. NATS may be away at any time: then nothing is delivered, and everything comes when it is
 * back. `subscribe` answers at once; two subscriptions of one consumer in one process share its partitions.
 */
export function createNatsCarrier(
  deps: NatsCarrierDependencies,
  settings: NatsCarrierSettings = {},
): NatsCarrier {
  const { random = Math.random } = deps;
  const feeds = new Map<
    string,
    { readonly consumer: string; readonly feed: ConsumerFeed; counts: FeedCounts }
  >();
  return {
    async subscribe(subscription: CarrierSubscription): Promise<RunningSubscription> {
      // A holder of its own for each subscription: two of one consumer must not take each other's rows for their own.
      const holder = randomUUID();
      const counts = noCounts();
      const feedSettings = { leaseMs: 10_000, watchMs: 5000, ...settings };
      const feed = new ConsumerFeed({ ...deps, random, holder }, feedSettings, subscription, counts);
      feeds.set(holder, { consumer: subscription.consumer, feed, counts });
      feed.start();
      return feed;
    },
    wake() {
      deps.wakeRelay?.();
    },
    state: () =>
      [...feeds.values()].map(({ consumer, feed, counts }) => ({
        consumer,
        partitions: feed.partitions,
        lag: feed.lag,
        stuckLanes: feed.stuckLanes,
        counts,
      })),
  };
}
