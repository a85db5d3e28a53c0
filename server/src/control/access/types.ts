import type { ApiKeyObject, CreateKeyBody, OperatorRole } from '@stoa/contracts';
import type { OperatorContext } from '#db';
import type { TenantId } from '#kernel';
import type { NewOperatorKey } from './operator-keys/operator-keys.ts';

/** What the composition, the set-up and the commands ask of access; requests go through the routes. */
export interface AccessApi {
  /** A key for the operator; `key` is its plaintext, shown this once. `by` is `system:set-up` for the first; default `operator`. */
  createOperatorKey(
    by: OperatorContext,
    key: { readonly name: string; readonly role?: OperatorRole },
  ): Promise<NewOperatorKey>;
  /** A key for a tenant, made by the operator or by `system:set-up`; `key` is its plaintext, shown this once. */
  createTenantKey(
    by: OperatorContext,
    tenantId: TenantId,
    key: Pick<CreateKeyBody, 'name' | 'role'> & Partial<CreateKeyBody>,
  ): Promise<ApiKeyObject & { readonly key: string }>;
  /**
   * To be called after the commit of a tenant's change of state: what this process has cached of its keys is read anew
   * before the promise resolves, and the other processes are told. Never rejects; where the database can't be asked, the
   * keys are dropped from the cache.
   */
  tenantChanged(tenantId: TenantId, version: number): Promise<void>;
  /** Reads what other processes changed, now. Never rejects. */
  readChanges(): Promise<void>;
}
