import type { Decider } from './types.ts';

/**
 * The decision as it stands now: a named target is a decision with one arm; `auto` takes the first healthy target in
 * the tenant's policy order, with the rest as fallbacks. Nothing is random, so the probability is always 1. The router
 * that learns fills this same interface.
 */
export function createDecider(): Decider {
  return {
    decide({ requestedModel, candidates, isHealthy }) {
      const [first] = candidates;
      if (!first) return null;
      if (requestedModel !== 'auto') return { target: first, probability: 1, reason: 'named', fallbacks: [] };
      const healthy = candidates.find(isHealthy);
      const target = healthy ?? first;
      return {
        target,
        probability: 1,
        reason: healthy ? 'first_healthy' : 'all_unhealthy',
        fallbacks: candidates.filter((candidate) => candidate !== target),
      };
    },
  };
}
