import { isToldOnce } from '../event-type.ts';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { LeaseLost } from './attempt.ts';
import { type StoredDelivery, storeFailed, storeHeld } from './deliveries.sql.ts';
import { createJoint, type Joint } from './joint.ts';
import { inKeyOrder, type Judgement } from './judgement.ts';
import { failedAttempt, type HandlingDeps, hold, measured, report } from './outcomes.ts';
import { retryStored } from './stored-delivery.ts';
import { newSuspicion, type ReplayProgress, replaySuspect, type Suspicion, trySuspects } from './suspects.ts';
import type { Turns } from './turns.ts';

/** How many events a system-door consumer gets at once. */
const systemBatch = 500;
/** Transactions of one system-door consumer that are under way at once in this process. */
const systemAtOnce = 4;

/** What has become of one partition of one consumer, as far as deliveries must know of each other. */
export interface PartitionState {
  suspicion: Suspicion | null;
}

/**
 * What is done with events, whoever brings them: attempts, and the store for those that could not have their effect.
 * Rejects only where the store itself can't be written. Each takes its turn (`turns.ts`).
 */
export interface Handling {
  /**
   * Events of one partition, in the order of the log. Answers how many of them, from the first on, are dealt with: at
   * least one, and not all where they take long.
   * @param state of the partition, from one delivery to the next
   */
  deliver(
    consumer: EventConsumer,
    events: readonly LoggedEvent[],
    state: PartitionState,
    mayHaveKilled: boolean,
  ): Promise<number>;
  /** An event of the store that is due and leased to this process. */
  retry(consumer: EventConsumer, delivery: StoredDelivery): Promise<void>;
  /** The same for one whose attempt is counted with its lease. Only within `alone`, as the lease itself. */
  retryAlone(consumer: EventConsumer, delivery: StoredDelivery): Promise<void>;
  alone: Turns['alone'];
  /**
   * One event again, whether or not it was handled. Rejects with `LeaseLost` where `progress` does: then another process
   * goes on with the replay, and nothing has happened here.
   * @param mayHaveKilled whether a process vanished that may have been handling it for this replay
   */
  replay(
    consumer: EventConsumer,
    event: LoggedEvent,
    progress: ReplayProgress,
    mayHaveKilled: boolean,
  ): Promise<void>;
}

export function createHandling(deps: HandlingDeps): Handling {
  const { turns } = deps;
  const joints = new Map<EventConsumer, Joint<LoggedEvent>>();
  function jointOf(consumer: EventConsumer): Joint<LoggedEvent> {
    const found = joints.get(consumer);
    if (found !== undefined) return found;
    const most = consumer.door === 'tenant' ? 1 : systemBatch;
    const atOnce = consumer.door === 'tenant' ? Number.POSITIVE_INFINITY : systemAtOnce;
    const joint = createJoint<LoggedEvent>((events) => deliverBatch(deps, consumer, events), {
      atOnce,
      most,
    });
    joints.set(consumer, joint);
    return joint;
  }
  return {
    async deliver(consumer, events, state, mayHaveKilled) {
      if (mayHaveKilled) state.suspicion = newSuspicion(consumer, systemBatch);
      const ordered = inKeyOrder(events);
      const size = consumer.door === 'tenant' ? 1 : systemBatch;
      const endMs = deps.clock.monotonic() + deps.handlerDeadlineMs;
      let done = 0;
      // One whose handler hangs gives the others their turn; the rest of its events come again.
      while (done < ordered.length && (done === 0 || deps.clock.monotonic() < endMs)) {
        const { suspicion } = state;
        if (suspicion !== null) {
          done += await trySuspects(deps, consumer, ordered.slice(done), suspicion);
          if (suspicion.left === 0) state.suspicion = null;
          continue;
        }
        const batch = ordered.slice(done, done + size);
        const wanted = await wantedOf(deps, consumer, batch);
        if (wanted.length > 0) await jointOf(consumer).add(wanted);
        done += batch.length;
      }
      return dealtWith(events, ordered, done);
    },
    alone: (work) => turns.alone(work),
    retry: (consumer, delivery) => turns.together(() => retryStored(deps, consumer, delivery)),
    retryAlone: (consumer, delivery) => retryStored(deps, consumer, delivery),
    replay: (consumer, event, progress, mayHaveKilled) =>
      mayHaveKilled
        ? turns.alone(() => replaySuspect(deps, consumer, event, progress))
        : turns.together(() => replayOne(deps, consumer, event, progress)),
  };
}

/** Versions of a key are counted, so only what is told once can be passed over without a trace. */
async function wantedOf(
  { logger }: HandlingDeps,
  consumer: EventConsumer,
  batch: readonly LoggedEvent[],
): Promise<readonly LoggedEvent[]> {
  const asked = consumer.pickWanted ? batch.filter(({ type }) => isToldOnce(type)) : [];
  if (asked.length === 0) return batch;
  try {
    const wanted = new Set(await consumer.pickWanted?.(asked));
    return batch.filter((event) => !isToldOnce(event.type) || wanted.has(event));
  } catch (error) {
    logger.debug(
      { err: error, consumer: consumer.name },
      'cannot tell which events are wanted; all are handled',
    );
    return batch;
  }
}

/** How many events from the first on are among the first `done` of `ordered`. */
function dealtWith(events: readonly LoggedEvent[], ordered: readonly LoggedEvent[], done: number): number {
  if (done === ordered.length) return done;
  const finished = new Set(ordered.slice(0, done));
  const first = events.findIndex((event) => !finished.has(event));
  return first === -1 ? events.length : first;
}

/** A batch in one transaction; where it fails, its halves, until the one event that fails is alone. */
async function deliverBatch(
  deps: HandlingDeps,
  consumer: EventConsumer,
  events: readonly LoggedEvent[],
): Promise<void> {
  const [first] = events;
  if (first === undefined) return;
  let outcomes: readonly Judgement[];
  try {
    outcomes = await deps.turns.together(() =>
      measured(deps, consumer, { events, origin: 'carrier', leaseToken: null }),
    );
  } catch (error) {
    if (events.length === 1) {
      await storeFailure(deps, consumer, first, error);
      return;
    }
    const middle = Math.ceil(events.length / 2);
    await deliverBatch(deps, consumer, events.slice(0, middle));
    await deliverBatch(deps, consumer, events.slice(middle));
    return;
  }
  for (const [index, event] of events.entries()) {
    const outcome = outcomes[index];
    if (outcome === 'blocked' || outcome === 'gap') await hold(deps, consumer, event, outcome);
  }
}

async function storeFailure(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  error: unknown,
): Promise<void> {
  const failed = failedAttempt(deps, error, 1, 0);
  await deps.db.withSystem('event-dispatch', (tx) => storeFailed(tx, consumer.name, event, failed, false));
  report(deps, consumer, event, failed);
}

/** Progress is written with whatever the event comes to: its effect, its failure, or its waiting. */
async function replayOne(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  progress: ReplayProgress,
): Promise<void> {
  let thrown: { readonly error: unknown };
  try {
    const [outcome] = await measured(deps, consumer, {
      events: [event],
      origin: 'replay',
      leaseToken: null,
      also: (tx) => progress(tx, true),
    });
    if (outcome === 'handle') return;
    if (outcome === 'skip') {
      await deps.db.withSystem('event-dispatch', (tx) => progress(tx, false));
      return;
    }
    await deps.db.withSystem('event-dispatch', async (tx) => {
      await storeHeld(tx, consumer.name, event, 'blocked', true);
      await progress(tx, false);
    });
    deps.metrics.held(consumer.name, 'blocked');
    deps.onStored();
    return;
  } catch (error) {
    if (error instanceof LeaseLost) throw error;
    thrown = { error };
  }
  const failed = failedAttempt(deps, thrown.error, 1, 0);
  await deps.db.withSystem('event-dispatch', async (tx) => {
    await storeFailed(tx, consumer.name, event, failed, true);
    await progress(tx, false);
  });
  report(deps, consumer, event, failed);
}
