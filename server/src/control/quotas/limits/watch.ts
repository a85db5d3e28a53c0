import { type Broadcast, hearChanges } from '#cache';
import type { Database } from '#db';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { LimitsBook } from './book.ts';
import { type ChangedLimitsRow, selectLimits, selectRecentLimits } from './limits.sql.ts';

/**
 * Keeps the book true: all limits are read at the start, and from then on what changed, by a push where the processes share
 * a Redis and by a poll beneath it that looks back over a window longer than any transaction may last (decision 0015).
 * After an outage that the window does not cover, everything is read again.
 */
export interface LimitsWatch {
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
  /** Tells the other processes; never throws. */
  tell(tenantId: string, version: number): void;
  /** One poll. Rejects where the database can't be asked. */
  poll(): Promise<void>;
}

export interface LimitsWatchDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly book: LimitsBook;
  readonly broadcast?: Broadcast | undefined;
}

const topic = 'quotas.limits';
const windowMs = 60_000;
/** After so long without a good poll, a change may have been missed by the window. */
const readAllAfterMs = 45_000;
const rowsAtOnce = 5_000;

export function createLimitsWatch(deps: LimitsWatchDeps, pollEveryMs: number): LimitsWatch {
  const { db, clock, logger, book, broadcast } = deps;
  let lastGoodMs = -Infinity;
  let isHealthy = true;
  let isStopped = true;
  let timer: NodeJS.Timeout | undefined;
  let polling: Promise<void> = Promise.resolve();
  let stopHearing: (() => Promise<void>) | undefined;

  const read = async (): Promise<void> => {
    const startedMs = clock.monotonic();
    if (startedMs - lastGoodMs > readAllAfterMs) book.replace(await readAll(db));
    else
      for (const row of await db.withSystem('limits', (tx) => selectRecentLimits(tx, windowMs)))
        book.put(row);
    lastGoodMs = startedMs;
  };
  const poll = (): Promise<void> => {
    polling = polling.then(read, read);
    return polling;
  };
  const pollAndGoOn = async (): Promise<void> => {
    try {
      await poll();
      isHealthy = true;
    } catch (error) {
      // Once for each outage: a line every second would bury what matters.
      if (isHealthy) logger.warn({ err: error }, 'changes of limits cannot be read; the known limits hold');
      isHealthy = false;
    }
    if (!isStopped) timer = setTimeout(() => void pollAndGoOn(), pollEveryMs);
  };
  return {
    poll,
    tell: (tenantId, version) => broadcast?.publish({ topic, tenantId, version }),
    health: { name: 'limits', isHealthy: () => isHealthy },
    lifecycle: {
      async start() {
        isStopped = false;
        await poll();
        timer = setTimeout(() => void pollAndGoOn(), pollEveryMs);
        if (broadcast)
          stopHearing ??= hearChanges({ broadcast, logger }, [topic], {
            apply: () => poll(),
            readAll: () => poll(),
          });
      },
      async stop() {
        isStopped = true;
        clearTimeout(timer);
        await stopHearing?.();
        stopHearing = undefined;
        await polling.catch(() => undefined);
      },
    },
  };
}

async function readAll(db: Database): Promise<readonly ChangedLimitsRow[]> {
  const all: ChangedLimitsRow[] = [];
  for (;;) {
    const last = all.at(-1);
    const after = last === undefined ? null : { tenantId: last.tenant_id, keyId: last.key_id };
    const rows = await db.withSystem('limits', (tx) => selectLimits(tx, after, rowsAtOnce));
    all.push(...rows);
    if (rows.length < rowsAtOnce) return all;
  }
}
