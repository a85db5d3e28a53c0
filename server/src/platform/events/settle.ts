import { sql } from 'kysely';
import type { Database, OperatorContext } from '#db';
import { type Foreign, isForeign, readForeign } from './retention.sql.ts';

/** What settling the log did, or would do. */
export interface Settled {
  /** What was found before. */
  readonly foreign: Foreign;
  /** Events that got a new position: all that the log has, or none where the positions were this server's. */
  readonly events: number;
  /** Places that were moved: 64 a consumer; those of relays; those of replays that run. */
  readonly places: number;
  readonly relays: number;
  readonly replays: number;
  readonly consumers: readonly {
    readonly name: string;
    /** Events behind the earliest of its places: they are handed over, and the inbox passes over what it has seen. */
    readonly unread: number;
  }[];
}

/** The longest that a door gives. */
const settleDeadlineMs = 600_000;

class DryRun extends Error {
  readonly found: Settled;

  constructor(found: Settled) {
    super('a dry run is rolled back');
    this.found = found;
  }
}

/**
 * Sets the positions of a log right that was restored, into this or another database server: see
 * `migrations/0005-restored-log.sql`. No process of Stoa may run meanwhile. In one transaction, audited; with `isDryRun`
 * it is rolled back in the end, and takes as long. Where the positions are this server's own, none is moved and the log gets
 * a new id only, each time.
 */
export async function settleEventLog(
  db: Pick<Database, 'withOperator'>,
  by: OperatorContext,
  isDryRun: boolean,
): Promise<Settled> {
  try {
    return await db.withOperator(
      by,
      'events.after-restore',
      async (tx) => {
        const foreign = await readForeign(tx);
        const { rows } = await sql<{ events: bigint; places: bigint; relays: bigint; replays: bigint }>`
          select events, places, relays, replays from platform.settle_event_log(${isForeign(foreign)}::boolean)
        `.execute(tx);
        const [row] = rows;
        if (row === undefined) throw new Error('the event log was not settled');
        const events = Number(row.events);
        const consumers = await sql<{ name: string; unread: number }>`
          select consumer as name, (select count(*)::integer from tenant.events where (xid, seq) > (p.xid, p.seq)) as unread
          from (select distinct on (consumer) consumer, xid, seq from platform.event_places
            order by consumer, event_places.xid, event_places.seq) as p
        `.execute(tx);
        const settled: Settled = {
          foreign,
          events,
          places: Number(row.places),
          relays: Number(row.relays),
          replays: Number(row.replays),
          consumers: consumers.rows,
        };
        if (isDryRun) throw new DryRun(settled);
        await tx.audit({
          action: 'events.after-restore',
          resource: { type: 'event_log', id: '*' },
          after: { events, places: settled.places, relays: settled.relays, replays: settled.replays },
        });
        return settled;
      },
      { deadlineMs: settleDeadlineMs },
    );
  } catch (error) {
    if (error instanceof DryRun) return error.found;
    throw error;
  }
}
