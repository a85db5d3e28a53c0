import type { TenantObject } from '@stoa/contracts';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import { appendEvents } from '#events';
import {
  AppError,
  asTenantId,
  type Clock,
  newTenantId,
  pageOf,
  requireVersion,
  type TenantId,
  toTypeId,
} from '#kernel';
import {
  insertTenant,
  lockTenant,
  selectTenant,
  selectTenants,
  type TenantRow,
  type TenantValues,
  updateTenant,
} from './tenants.sql.ts';
import { tenantTold } from './told.ts';
import type { TenantChange, TenantsApi } from './types.ts';

export interface TenantStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Called after the commit of a change that others may have cached; awaited before the answer goes out. */
  readonly onChanged: (tenantId: TenantId, version: number) => Promise<void>;
}

export interface TenantStore extends Omit<TenantsApi, 'create' | 'purge'> {
  /** A new active tenant; `answer` makes the result of it, inside the transaction. */
  create<Answer>(
    by: OperatorContext,
    name: string,
    answer: (tx: OperatorHandle, tenant: TenantObject) => Promise<Answer>,
  ): Promise<Answer>;
}

/** How long a deleted tenant can be restored. */
const graceMs = 30 * 24 * 60 * 60 * 1000;

/** Runs `decide` on the locked row and writes what it answers; null leaves the row as it is. */
async function changeLocked(
  { db, onChanged }: TenantStoreDeps,
  call: { by: OperatorContext; id: TenantId; action: string; reason: string; ifMatch: string | null },
  decide: (row: TenantRow) => TenantValues | null,
): Promise<TenantObject> {
  const { by, id, action, reason, ifMatch } = call;
  const { row, isChanged } = await db.withOperator({ ...by, tenantId: id }, reason, async (tx) => {
    const found = await lockTenant(tx, id);
    if (found === undefined) throw noSuchTenant();
    requireVersion(ifMatch, Number(found.version));
    const values = decide(found);
    if (values === null) return { row: found, isChanged: false };
    const changed = await updateTenant(tx, id, values);
    await appendEvents(tx, [tenantTold(found, changed)]);
    await tx.audit({ action, ...audited(changed), before: toObject(found), after: toObject(changed) });
    return { row: changed, isChanged: true };
  });
  if (isChanged) await onChanged(id, Number(row.version));
  return toObject(row);
}

export function createTenantStore(deps: TenantStoreDeps): TenantStore {
  const { db, clock } = deps;
  return {
    async create(by, name, answer) {
      const tenantId = newTenantId();
      const createdAt = new Date(clock.now());
      return db.withOperator({ ...by, tenantId }, 'tenants.create', async (tx) => {
        const row = await insertTenant(tx, { tenantId, name, createdAt });
        await appendEvents(tx, [tenantTold(null, row)]);
        await tx.audit({ action: 'tenants.create', ...audited(row), after: toObject(row) });
        return answer(tx, toObject(row));
      });
    },

    async list(by, page) {
      const rows = await db.withOperator(by, 'tenants.list', (tx) => selectTenants(tx, page));
      return pageOf(rows.map(toObject), page.limit, (item) => item.id);
    },

    async read(by, id) {
      const row = await db.withOperator({ ...by, tenantId: id }, 'tenants.read', (tx) =>
        selectTenant(tx, id),
      );
      if (row === undefined) throw noSuchTenant();
      return toObject(row);
    },

    async change(by, id, change, ifMatch) {
      const call = { by, id, action: 'tenants.change', reason: reasonOf(change), ifMatch };
      return changeLocked(deps, call, (row) => changedValues(row, change, new Date(clock.now())));
    },

    async remove(by, id, ifMatch) {
      const now = clock.now();
      const action = 'tenants.delete';
      return changeLocked(deps, { by, id, action, reason: action, ifMatch }, (row) =>
        row.state === 'deleted'
          ? null
          : {
              name: row.name,
              state: 'deleted',
              suspended_at: null,
              deleted_at: new Date(now),
              purge_after: new Date(now + graceMs),
            },
      );
    },
  };
}

/** What a change makes of a tenant, or null where that is what it is already. */
function changedValues(row: TenantRow, change: TenantChange, now: Date): TenantValues | null {
  if (row.state === 'deleted') requireRestorable(row, change, now);
  const name = change.name ?? row.name;
  const state = change.state ?? row.state;
  if (name === row.name && state === row.state) return null;
  const suspendedAt = row.state === 'suspended' ? row.suspended_at : now;
  return {
    name,
    state,
    suspended_at: state === 'suspended' ? suspendedAt : null,
    deleted_at: null,
    purge_after: null,
  };
}

function requireRestorable(row: TenantRow, change: TenantChange, now: Date): void {
  const isInGrace = row.purge_started_at === null && row.purge_after !== null && now < row.purge_after;
  if (!isInGrace) throw new AppError('conflict', 'The tenant is deleted, and its time of grace is over.');
  if (change.state === 'active') return;
  throw new AppError('conflict', 'The tenant is deleted; restore it first, with the state "active".', {
    param: 'state',
  });
}

function reasonOf(change: TenantChange): string {
  const what = change.state === undefined ? 'tenants.change' : `tenants.change to ${change.state}`;
  return change.reason === undefined ? what : `${what}: ${change.reason}`;
}

function audited(row: TenantRow) {
  return { resource: { type: 'tenant', id: toTypeId('ten', row.tenant_id) }, tenantId: row.tenant_id };
}

/** The same answer for what never was and for what is purged. */
function noSuchTenant(): AppError {
  return new AppError('not_found', 'There is no such tenant.');
}

function toObject(row: TenantRow): TenantObject {
  const time = (value: Date | null): string | null => value?.toISOString() ?? null;
  return {
    id: toTypeId('ten', asTenantId(row.tenant_id)),
    object: 'tenant',
    name: row.name,
    state: row.state,
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
    suspended_at: time(row.suspended_at),
    deleted_at: time(row.deleted_at),
    purge_after: time(row.purge_after),
  };
}
