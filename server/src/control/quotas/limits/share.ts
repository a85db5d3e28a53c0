import { type LimitRequest, limitRuleFault } from '#cache';

/**
 * A process's share of a limit, while the processes can't count together: an equal part of the rate and of the burst. The
 * rate is divided by a longer period, so that nothing is rounded; a burst that is smaller than the number of processes
 * can't be divided, and each has 1.
 */
export function shareOf(request: LimitRequest, processes: number): LimitRequest {
  if (processes <= 1) return request;
  const burst = Math.max(1, Math.floor(request.burst / processes));
  const cost = Math.min(request.cost, burst);
  const exact = { ...request, periodMs: request.periodMs * processes, burst, cost };
  if (limitRuleFault(exact) === null) return exact;
  // Too large for whole numbers together: the rate is rounded down instead.
  return { ...request, limit: Math.max(1, Math.floor(request.limit / processes)), burst, cost };
}
