import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Lifecycle, Logger } from '#kernel';
import type { EventConsumer, EventCursor, LoggedEvent } from '../types.ts';
import { LeaseLost } from './attempt.ts';
import type { Handling } from './handling.ts';
import { inKeyOrder } from './judgement.ts';
import { createLoop } from './loop.ts';
import type { ReplayProgress } from './suspects.ts';
import {
  finishReplay,
  giveReplayBack,
  type LeasedReplay,
  leaseReplay,
  moveReplay,
  readReplay,
} from './replay.sql.ts';

export interface ReplayRunnerDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly handling: () => Handling;
}

export interface ReplayRunner extends Lifecycle {
  wake(): void;
}

/** How many events are read at once; each is handed over in a transaction of its own. */
const pageSize = 200;

/** How many events a replay's process may have died of: one, and some for pages that begin elsewhere than they did. */
const suspectsOfReplay = 8;

/** Thrown inside where the process stops; the replay goes on elsewhere. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/**
 * Hands a tenant's past to a consumer again, one event after the other in their order, beside what is told now. An event
 * leaves the inbox, enters it again and has its effect in one transaction, which also notes how far the replay is: so a
 * replay that is cut off goes on where it was, in any process.
 */
export function createReplayRunner(
  deps: ReplayRunnerDeps,
  consumers: readonly EventConsumer[],
  settings: { readonly pollMs: number; readonly leaseMs: number },
): ReplayRunner {
  const { db, logger } = deps;
  const byName = new Map(consumers.flatMap((one) => (one.isReplayable === true ? [[one.name, one]] : [])));
  const { leaseMs } = settings;

  async function drain(isStopping: () => boolean): Promise<void> {
    while (!isStopping()) {
      const token = randomUUID();
      const replay = await db.withSystem('event-dispatch', (tx) =>
        leaseReplay(tx, [...byName.keys()], { token, ms: leaseMs }),
      );
      const consumer = replay === null ? undefined : byName.get(replay.consumer);
      if (replay === null || consumer === undefined) return;
      try {
        await runReplay(deps, { consumer, replay, token, leaseMs, isStopping });
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
      } finally {
        await db.withSystem('event-dispatch', (tx) => giveReplayBack(tx, replay, token));
      }
    }
  }

  const loop = createLoop(drain, settings.pollMs * 4, (error) =>
    logger.warn({ err: error }, 'a replay was cut off; it goes on later'),
  );
  return {
    async start() {
      if (byName.size > 0) await loop.start();
    },
    stop: () => loop.stop(),
    wake: () => loop.wake(),
  };
}

interface RunningReplay {
  readonly consumer: EventConsumer;
  readonly replay: LeasedReplay;
  readonly token: string;
  readonly leaseMs: number;
  readonly isStopping: () => boolean;
}

async function runReplay({ db, logger, handling }: ReplayRunnerDeps, running: RunningReplay): Promise<void> {
  const { consumer, replay, token } = running;
  let after: EventCursor = { xid: replay.xid, seq: String(replay.seq) };
  // One event is under way at a time: a process that vanished died of the next one, if of any.
  let mayHaveKilled = replay.was_held;
  for (;;) {
    const from = after;
    const page = await db.withSystem('event-dispatch', (tx) =>
      readReplay(tx, replay, from, consumer.types, pageSize),
    );
    const last = page.at(-1);
    if (last === undefined) break;
    await handOver(handling(), running, page, { from, mayHaveKilled });
    after = last.cursor;
    mayHaveKilled = false;
  }
  await db.withSystem('event-dispatch', (tx) => finishReplay(tx, replay, token));
  logger.info({ replayId: replay.replay_id, consumer: consumer.name }, 'a replay is done');
}

async function handOver(
  handling: Handling,
  { consumer, replay, token, leaseMs, isStopping }: RunningReplay,
  page: readonly LoggedEvent[],
  { from, mayHaveKilled }: { readonly from: EventCursor; readonly mayHaveKilled: boolean },
): Promise<void> {
  const ordered = inKeyOrder(page);
  const safe = safeCursors(page, ordered, from);
  for (const [index, event] of ordered.entries()) {
    if (isStopping()) throw new Interrupted('the process stops');
    const cursor = safe[index] ?? from;
    const progress: ReplayProgress = async (tx, isHandled) => {
      if (await moveReplay(tx, { replay, token, leaseMs, cursor }, isHandled)) return;
      throw new LeaseLost('the lease of a replay went to another process');
    };
    await handling.replay(consumer, event, progress, mayHaveKilled && index < suspectsOfReplay);
  }
}

/**
 * Where a replay may go on after each of the events as they are handed over: behind the last event of the log up to
 * which all have been. Where two versions of a key lie in the log in the wrong order, what is between them is handed over
 * again after a crash, and nothing is left out.
 */
function safeCursors(
  logged: readonly LoggedEvent[],
  handed: readonly LoggedEvent[],
  start: EventCursor,
): readonly EventCursor[] {
  const done = new Set<LoggedEvent>();
  let next = 0;
  let safe = start;
  return handed.map((event) => {
    done.add(event);
    for (let found = logged[next]; found !== undefined && done.has(found); found = logged[next]) {
      safe = found.cursor;
      next += 1;
    }
    return safe;
  });
}
