import type { Database, OperatorContext } from '#db';
import { AppError, type TenantActing, type TenantPrincipal } from '#kernel';
import { type KeyHandle, selectTenantState } from './keys/keys.sql.ts';

/** Who manages what is a tenant's: the operator, for any tenant, or a key of the tenant itself. */
export type KeyCaller =
  | { readonly kind: 'operator'; readonly by: OperatorContext; readonly tenantId: string }
  | { readonly kind: 'tenant'; readonly principal: TenantPrincipal; readonly acting: TenantActing };

export type TenantCaller = Extract<KeyCaller, { readonly kind: 'tenant' }>;

/** Runs `fn` by the door of the caller. */
export async function throughDoor<T>(
  db: Database,
  caller: KeyCaller,
  reason: string,
  fn: (tx: KeyHandle, tenantId: string) => Promise<T>,
): Promise<T> {
  if (caller.kind === 'tenant') {
    const { tenantId } = caller.principal;
    return db.withTenant(caller.acting, (tx) => fn(tx, tenantId));
  }
  const { by, tenantId } = caller;
  return db.withOperator({ ...by, tenantId }, reason, (tx) => fn(tx, tenantId));
}

/** The operation as the audit names it: the operator has one of its own beside the tenant's. */
export function actOf(caller: KeyCaller, operation: string): string {
  return caller.kind === 'operator' ? `tenant_${operation}` : operation;
}

/** Who it was, as stored. */
export function creatorOf(caller: KeyCaller): string {
  return caller.kind === 'operator' ? `operator:${caller.by.operator}` : `key:${caller.principal.keyId}`;
}

/** Who it was, for the tenant: which of the operator's keys is in the audit entries alone. */
export function shownCaller(caller: KeyCaller): string {
  return caller.kind === 'operator' ? 'operator' : `key:${caller.principal.keyId}`;
}

/** Throws `not_found`. */
export async function requireTenant(tx: KeyHandle, tenantId: string): Promise<void> {
  if ((await selectTenantState(tx, tenantId)) === null) throw noSuchTenant();
}

/** Throws `not_found`, and `conflict` for a tenant that is deleted and may be restored. */
export async function requireLivingTenant(tx: KeyHandle, tenantId: string): Promise<void> {
  const state = await selectTenantState(tx, tenantId);
  if (state === null) throw noSuchTenant();
  if (state === 'deleted') throw new AppError('conflict', 'The tenant is deleted; restore it first.');
}

/** One answer for a key that never was and for another tenant's. */
export function noSuchKey(): AppError {
  return new AppError('not_found', 'There is no such key.');
}

function noSuchTenant(): AppError {
  return new AppError('not_found', 'There is no such tenant.');
}
