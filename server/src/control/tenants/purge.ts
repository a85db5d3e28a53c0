import { type Database, type SystemHandle, systemGrants } from '#db';
import { type Clock, type Logger, toTypeId } from '#kernel';
import { deleteRowsOf, markPurgeStarted, selectPurgeable } from './tenants.sql.ts';

/**
 * The purge of deleted tenants whose grace is over. First the tenant is marked, so that from then on nothing restores
 * it; then each table loses its rows in a transaction of its own, the tenant's row last. A purge that was cut off is
 * found again by the next run and goes on: every step may be repeated. Two that run at once do each other's work.
 */

const tenantTable = 'tenant.tenants';

/** The tables that hold tenants' rows, in the order in which they are emptied: what refers to others goes first. */
const purgedTables: readonly string[] = [
  ...Object.entries(systemGrants.purge).flatMap(([table, verbs]) =>
    verbs.some((verb) => verb === 'delete') && table !== tenantTable ? [table] : [],
  ),
  tenantTable,
];

/** One table of one large tenant may take this long. */
const tableDeadlineMs = 600_000;
const tenantsARun = 100;

export interface PurgeDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Purges up to 100 tenants; answers how many are gone. */
export async function purgeTenants({ db, clock, logger }: PurgeDeps): Promise<number> {
  const now = new Date(clock.now());
  const tenantIds = await db.withSystem('purge', (tx) => selectPurgeable(tx, now, tenantsARun));
  let purged = 0;
  for (const tenantId of tenantIds) {
    const isMarked = await db.withSystem('purge', (tx) => markPurgeStarted(tx, tenantId, now));
    if (!isMarked) continue;
    let deletedRows = 0;
    for (const table of purgedTables) {
      deletedRows += await db.withSystem('purge', (tx) => purgeTable(tx, table, tenantId), {
        deadlineMs: tableDeadlineMs,
      });
    }
    logger.info(
      { tenant_id: toTypeId('ten', tenantId), deleted_rows: deletedRows },
      'a deleted tenant was purged',
    );
    purged += 1;
  }
  return purged;
}

/** The last row's going is the purge that the audit tells of; the entry outlives the tenant, as its other ones do. */
async function purgeTable(tx: SystemHandle, table: string, tenantId: string): Promise<number> {
  const deleted = await deleteRowsOf(tx, table, tenantId);
  if (table === tenantTable && deleted > 0) {
    await tx.audit({
      action: 'tenants.purge',
      resource: { type: 'tenant', id: toTypeId('ten', tenantId) },
      tenantId,
    });
  }
  return deleted;
}
