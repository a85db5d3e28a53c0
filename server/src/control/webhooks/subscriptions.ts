import { everyEventType } from '@stoa/contracts';
import type { Broadcast } from '#cache';
import { hearChanges } from '#cache';
import type { Database } from '#db';
import type { Lifecycle, Logger } from '#kernel';
import { selectSubscriptions } from './webhooks.sql.ts';

/**
 * Which tenants subscribe to which types, in memory: asked for every event that is told
 * once (requests), most of which nobody wants. What is no longer subscribed goes with the next whole reading, so it says yes
 * too often, and whoever acts on a yes looks at the rows. It can also say no wrongly: what another process subscribed is known
 * by a push or the next poll only, and a request that completes before that is not sent.
 */
export interface Subscriptions {
  mayWant(tenantId: string, type: string): boolean;
  /** A change of this process; tells the others. */
  changed(row: {
    readonly tenant_id: string;
    readonly event_types: readonly string[];
    readonly version: bigint;
  }): void;
  readonly lifecycle: Lifecycle;
}

export interface SubscriptionsDeps {
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
  readonly broadcast?: Broadcast;
}

const topic = 'webhooks.changed';
const wholeEveryMs = 600_000;
/** Longer than any transaction may last. */
const windowMs = 60_000;
/** After so long without a good reading, what changed meanwhile may lie outside of the window. */
const forgetAfterMs = 45_000;

export function createSubscriptions(
  deps: SubscriptionsDeps,
  { pollEveryMs }: { readonly pollEveryMs: number },
): Subscriptions {
  const known = new Known();
  const read = (): Promise<void> => known.read(deps.db);
  return {
    mayWant: (tenantId, type) => known.has(tenantId, type),
    changed({ tenant_id: tenantId, event_types: types, version }) {
      known.add(tenantId, types);
      deps.broadcast?.publish({ topic, tenantId, version: Number(version) });
    },
    lifecycle: createLifecycle(deps, read, pollEveryMs),
  };
}

type TypesOf = Map<string, Set<string>>;

class Known {
  #types: TypesOf = new Map();
  /** While all of it is read anew: what is added meanwhile goes there too. */
  #next: TypesOf | null = null;
  #wholeAtMs: number | null = null;
  #readAtMs = 0;

  has(tenantId: string, type: string): boolean {
    if (this.#wholeAtMs === null) return true;
    const types = this.#types.get(tenantId);
    return types !== undefined && (types.has(type) || types.has(everyEventType));
  }

  add(tenantId: string, types: readonly string[]): void {
    addTo(this.#types, tenantId, types);
    if (this.#next !== null) addTo(this.#next, tenantId, types);
  }

  /** What was changed lately; now and then all of it, which lets go of what nobody subscribes to any more. */
  async read(db: SubscriptionsDeps['db']): Promise<void> {
    const startedMs = performance.now();
    const isWhole =
      this.#wholeAtMs === null ||
      startedMs - this.#wholeAtMs >= wholeEveryMs ||
      startedMs - this.#readAtMs >= forgetAfterMs;
    const next: TypesOf | null = isWhole ? new Map() : null;
    this.#next = next;
    try {
      const rows = await db.withSystem('webhook-fan-out', (tx) =>
        selectSubscriptions(tx, isWhole ? null : windowMs),
      );
      for (const row of rows) this.add(row.tenant_id, row.event_types);
      this.#readAtMs = startedMs;
      if (next === null) return;
      this.#types = next;
      this.#wholeAtMs = startedMs;
    } finally {
      if (this.#next === next) this.#next = null;
    }
  }
}

function addTo(known: TypesOf, tenantId: string, types: readonly string[]): void {
  const held = known.get(tenantId);
  if (held === undefined) known.set(tenantId, new Set(types));
  else for (const type of types) held.add(type);
}

function createLifecycle(
  { logger, broadcast }: SubscriptionsDeps,
  read: () => Promise<void>,
  pollEveryMs: number,
): Lifecycle {
  let timer: NodeJS.Timeout | undefined;
  let reading: Promise<void> | null = null;
  let hasTrouble = false;
  let stopHearing: (() => Promise<void>) | undefined;
  const look = async (): Promise<void> => {
    try {
      await read();
      hasTrouble = false;
    } catch (error) {
      if (!hasTrouble) logger.warn({ err: error }, 'webhooks cannot be read; it is tried again');
      hasTrouble = true;
    }
  };
  return {
    async start() {
      await read();
      timer = setInterval(() => {
        reading ??= look().finally(() => {
          reading = null;
        });
      }, pollEveryMs);
      timer.unref();
      if (broadcast) {
        const reader = { apply: read, readAll: read };
        stopHearing ??= hearChanges({ broadcast, logger }, [topic], reader);
      }
    },
    async stop() {
      clearInterval(timer);
      await stopHearing?.();
      stopHearing = undefined;
      await reading;
    },
  };
}
