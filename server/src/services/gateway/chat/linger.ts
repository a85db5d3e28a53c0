import type { ServerResponse } from 'node:http';
import type { Clock } from '#kernel';
import type { Sweep, Swept } from './sweep.ts';
import { slowReaderMs, upstreamLingerMs } from './deadlines.ts';

/** A call that may outlive its request. */
interface Lingering {
  readonly isUpstreamOver: boolean;
  onUpstreamOver: (() => void) | null;
  cancel(): void;
}

/** What waits for its client beyond this many bytes is watched until it is taken. */
const watchedBytes = 256 * 1024;

/**
 * Watches what outlives a request: a provider that keeps its stream open behind `[DONE]`, and a client that does not take
 * the answer that waits for it. Both are cut at their deadlines. Mostly there is nothing to watch, and nothing is kept.
 */
export function linger(
  ports: { clock: Clock; sweep: Sweep },
  call: Lingering,
  response: ServerResponse,
): void {
  if (call.isUpstreamOver && response.writableLength < watchedBytes) return;
  const { sweep } = ports;
  const startedMs = ports.clock.monotonic();
  const isTaken = (): boolean => response.writableLength < watchedBytes || response.destroyed;
  const leaveIfOver = (): void => {
    if (call.isUpstreamOver && isTaken()) sweep.leave(place);
  };
  const member: Swept = {
    sweep(nowMs) {
      const elapsedMs = nowMs - startedMs;
      if (elapsedMs >= upstreamLingerMs && !call.isUpstreamOver) call.cancel();
      if (elapsedMs >= slowReaderMs) {
        if (!isTaken()) response.destroy();
        sweep.leave(place);
      } else leaveIfOver();
    },
  };
  // Mostly the provider's end comes in the next read of its socket, long before the next sweep.
  call.onUpstreamOver = leaveIfOver;
  const place = sweep.join(member);
}
