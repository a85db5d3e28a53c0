import { sql } from 'kysely';
import type { SystemHandle } from '#db';

export interface ExpiringKeyRow {
  readonly tenant_id: string;
  readonly key_id: string;
  readonly expires_at: Date;
  /** The warning that is due: so many days ahead. */
  readonly days: number;
  /** The warning's number among the alerts of this key. */
  readonly alerts: bigint;
}

/**
 * Keys of which a warning is due, marked as warned of: neither `version` nor `changed_at` move. By api_keys_by_expiry, over
 * the keys that expire within the longest of `days`. Rows that somebody else holds are left for the next time.
 */
export async function takeExpiringKeys(
  tx: SystemHandle,
  { now, days, limit }: { now: Date; days: readonly number[]; limit: number },
): Promise<readonly ExpiringKeyRow[]> {
  const { rows } = await sql<ExpiringKeyRow>`
    with due as (
      select k.tenant_id, k.key_id, nearest.days
      from tenant.api_keys k
      join tenant.tenants t on t.tenant_id = k.tenant_id and t.state <> 'deleted'
      cross join lateral (
        select min(d.days) as days from unnest(${days}::smallint[]) as d (days)
        where k.expires_at <= ${now}::timestamptz + d.days * interval '24 hours'
          and k.expires_at > k.created_at + d.days * interval '24 hours'
      ) nearest
      where k.revoked_at is null and k.expires_at > ${now}::timestamptz
        and k.expires_at <= ${now}::timestamptz + ${Math.max(...days)}::integer * interval '24 hours'
        and nearest.days is not null
        and (k.expiry_warned_for is distinct from k.expires_at or k.expiry_warned_days > nearest.days)
      order by k.expires_at
      limit ${limit}
      for update of k skip locked
    )
    update tenant.api_keys k
    set expiry_warned_days = due.days, expiry_warned_for = k.expires_at, alerts = k.alerts + 1
    from due where k.tenant_id = due.tenant_id and k.key_id = due.key_id
    returning k.tenant_id, k.key_id, k.expires_at, due.days, k.alerts
  `.execute(tx);
  return rows;
}
