import type { ModelFileEntry, ProviderFileEntry } from '@stoa/contracts';
import type { TenantId } from '#kernel';
import type { Target } from '#models';

/**
 * The targets as this process knows them, in memory. `snapshot` never waits; a new object replaces it when anything
 * changes, so holding one for the length of a request is safe.
 */
export interface TargetSnapshot {
  readonly version: number;
  /** Enabled targets by id. */
  readonly byId: ReadonlyMap<string, Target>;
  /** Enabled targets in the operator's default order for `auto`: generative ones first, the extractive engine only where it is alone. */
  readonly chatOrder: readonly Target[];
}

/** What one tenant may use. Belongs to one snapshot: ask again for each request, it costs a look into a map. */
export interface TargetPolicy {
  /** What `auto` chooses from, the preferred first; only enabled, allowed chat targets. May be empty. */
  readonly chatOrder: readonly Target[];
  isAllowed(target: Target): boolean;
}

/** The sections `providers` and `models` of stoa.yaml, checked by their schemas. */
export interface FileSections {
  readonly providers: readonly ProviderFileEntry[];
  readonly models: readonly ModelFileEntry[];
}

/** What applying a file did; a second time with the same file it is all zero. */
export interface ApplyReport {
  readonly added: number;
  readonly changed: number;
  readonly disabled: number;
}

export interface RegistryApi {
  snapshot(): TargetSnapshot;
  /**
   * Looks an unknown model up once more: one coalesced, rate-limited listing of the discovered providers.
   * Null where it stays unknown, or where a listing ran less than a few seconds ago.
   */
  refresh(id: string): Promise<Target | null>;
  /**
   * The tenant's policy: at once where it is known, else after one query. Rejects with `database_unavailable` where it
   * has to be read and can't be: an unknown policy may forget to allow, so it is never guessed.
   */
  policyFor(tenantId: TenantId): TargetPolicy | Promise<TargetPolicy>;
  /**
   * Makes the file's entries the ones in effect; what earlier files held and this one doesn't is disabled. Call it also
   * with empty sections where there is no file. May be called by several processes at once, and again.
   * @throws AppError `invalid_configuration` where entries contradict each other, a line each, with the path of the first in `param`
   */
  apply(sections: FileSections): Promise<ApplyReport>;
}
