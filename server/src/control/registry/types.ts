import type { Target } from '#models';

/**
 * The targets as this process knows them, in memory. `snapshot` never waits; a new object replaces it when anything
 * changes, so holding one for the length of a request is safe.
 */
export interface TargetSnapshot {
  readonly version: number;
  /** Enabled targets by id. */
  readonly byId: ReadonlyMap<string, Target>;
  /** Enabled targets in the operator's default order for `auto`: generative ones first, the extractive engine last. */
  readonly chatOrder: readonly Target[];
}

export interface RegistryApi {
  snapshot(): TargetSnapshot;
  /**
   * Looks an unknown model up once more: one coalesced, rate-limited listing of the discovered providers.
   * Null where it stays unknown, or where a listing ran less than a few seconds ago.
   */
  refresh(id: string): Promise<Target | null>;
}
