import { sql } from 'kysely';
import type { SystemHandle } from '#db';

export interface Lease {
  /** Grows with every new holder; `requireFence` tells a late write by it from the present holder's. */
  readonly fence: bigint;
}

/** The lease has another holder by now, so this one's write was refused. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/**
 * Holds a transaction to the lease: throws `LeaseLost` where the lease has a newer fence, and while the transaction lasts
 * nobody else can take it. The transaction's system job lists `platform.hold_fence` in `grants.ts`. One row by its
 * primary key, which others who look at the lease wait for: keep the transaction short.
 */
export async function requireFence(tx: SystemHandle, name: string, fence: bigint): Promise<void> {
  const { rows } = await sql<{ holds: boolean }>`
    select platform.hold_fence(${name}, ${fence}::bigint) as holds
  `.execute(tx);
  if (rows[0]?.holds !== true) throw new LeaseLost(`the lease ${name} is no longer held with fence ${fence}`);
}

/**
 * Takes or renews the lease for `holder`. Null where somebody else holds it. One row by its primary key; times are the
 * database's, so the clocks of processes don't matter.
 */
export async function takeLease(
  tx: SystemHandle,
  name: string,
  holder: string,
  durationMs: number,
): Promise<Lease | null> {
  const { rows } = await sql<{ fence: bigint }>`
    insert into platform.leases as lease (name, holder, fence, expires_at)
    values (${name}, ${holder}, 1, clock_timestamp() + ${durationMs} * interval '1 millisecond')
    on conflict (name) do update
      set holder = excluded.holder,
          expires_at = excluded.expires_at,
          fence = case when lease.holder = excluded.holder then lease.fence else lease.fence + 1 end
      where lease.holder = excluded.holder or lease.expires_at <= clock_timestamp()
    returning fence
  `.execute(tx);
  const [row] = rows;
  return row === undefined ? null : { fence: row.fence };
}

/**
 * Renews whatever `holder` still holds, also what has run out and nobody took. A lease that a transaction holds to its fence
 * is passed over: nobody can take it meanwhile. A few rows.
 */
export async function renewLeases(tx: SystemHandle, holder: string, durationMs: number): Promise<void> {
  await sql`
    update platform.leases set expires_at = clock_timestamp() + ${durationMs} * interval '1 millisecond'
    where name in (select name from platform.leases where holder = ${holder} for update skip locked)
  `.execute(tx);
}

/** Lets others in at once, where `holder` still holds the lease. The row stays: the fence goes on from there. */
export async function giveLeaseBack(tx: SystemHandle, name: string, holder: string): Promise<void> {
  await sql`
    update platform.leases set expires_at = clock_timestamp() where name = ${name} and holder = ${holder}
  `.execute(tx);
}
