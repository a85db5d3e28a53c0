import type { ServerResponse } from 'node:http';
import type { Clock } from '#kernel';
import type { Sweep, Swept } from './sweep.ts';
import { slowReaderMs, upstreamLingerMs } from './deadlines.ts';

/** A call that may outlive its request. */
interface Lingering {
  readonly isUpstreamOver: boolean;
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
  const member: Swept = {
    sweep(nowMs) {
      const elapsedMs = nowMs - startedMs;
      if (elapsedMs >= upstreamLingerMs && !call.isUpstreamOver) call.cancel();
      const isUpstreamOver = call.isUpstreamOver || elapsedMs >= upstreamLingerMs;
      const isTaken = response.writableFinished || response.destroyed;
      if (!isTaken && elapsedMs >= slowReaderMs) response.destroy();
      if (isUpstreamOver && (isTaken || elapsedMs >= slowReaderMs)) sweep.leave(member);
    },
  };
  sweep.join(member);
}
