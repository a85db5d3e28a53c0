import type { TenantObject, TenantState } from '@stoa/contracts';
import type { OperatorContext } from '#db';
import type { Page, TenantId } from '#kernel';

/** What a change of a tenant may say. */
export interface TenantChange {
  readonly name?: string | undefined;
  readonly state?: 'active' | 'suspended' | undefined;
  /** Kept in the audit entry. */
  readonly reason?: string | undefined;
}

/**
 * The tenants, for the composition and the set-up. Every call passes the audited door as `by`. Errors: `not_found`,
 * `conflict`, `version_conflict`, `invalid_request`.
 */
export interface TenantsApi {
  /** A new active tenant. Names need not be unique. */
  create(by: OperatorContext, name: string): Promise<TenantObject>;
  /** Newest first. `after` is a tenant's id, itself not part of the page; `limit` is 1 to 100. */
  list(
    by: OperatorContext,
    page: { after: TenantId | null; state: TenantState | null; limit: number },
  ): Promise<Page<TenantObject>>;
  read(by: OperatorContext, id: TenantId): Promise<TenantObject>;
  /**
   * Renames, suspends, resumes, or restores a deleted tenant during its grace. A change that changes nothing leaves the
   * version as it is.
   * @param ifMatch the header as it came, or null
   */
  change(
    by: OperatorContext,
    id: TenantId,
    change: TenantChange,
    ifMatch: string | null,
  ): Promise<TenantObject>;
  /** Deletes: a state with 30 days of grace. Deleting a deleted tenant changes nothing. */
  remove(by: OperatorContext, id: TenantId, ifMatch: string | null): Promise<TenantObject>;
  /** Deletes the rows of tenants whose grace is over; answers how many tenants are gone. Safe to run in parallel. */
  purge(): Promise<number>;
}
