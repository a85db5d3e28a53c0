import type { Lifecycle } from '#kernel';

/** Work that looks for itself: at its interval, and whenever it is woken. Turns never overlap. */
export interface Loop extends Lifecycle {
  /** Looks at once; where a turn is under way, another follows it. */
  wake(): void;
}

/**
 * @param turn one turn; `isStopping` says that it should come to its end. What it rejects with goes to `onError`
 */
export function createLoop(
  turn: (isStopping: () => boolean) => Promise<void>,
  everyMs: number,
  onError: (error: unknown) => void,
): Loop {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | null = null;
  let isStopped = true;
  let isWoken = false;

  function look(): void {
    clearTimeout(timer);
    if (isStopped) return;
    isWoken = true;
    if (running !== null) return;
    isWoken = false;
    running = turn(() => isStopped)
      .catch(onError)
      .finally(() => {
        running = null;
        if (isWoken) look();
        else if (!isStopped) timer = setTimeout(look, everyMs);
      });
  }

  return {
    async start() {
      isStopped = false;
      look();
    },
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await running;
    },
    wake: () => look(),
  };
}
