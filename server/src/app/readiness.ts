import type { HealthPart } from '#kernel';

export type Phase = 'starting' | 'ready' | 'draining' | 'schema_behind' | 'schema_ahead';

/**
 * Whether this process should get traffic. Only its own phase makes it unready: a lost dependency degrades it, so that
 * one fault cannot take every gateway out of a balancer at once.
 */
export interface Readiness {
  phase: Phase;
  readonly parts: HealthPart[];
  /** Names of the dependencies that are away. */
  degraded(): string[];
}

export function createReadiness(): Readiness {
  const parts: HealthPart[] = [];
  return {
    phase: 'starting',
    parts,
    degraded: () => parts.filter((part) => !part.isHealthy()).map((part) => part.name),
  };
}
