/** Resolves after `ms`, or at once when the signal aborts. Never rejects, and leaves no timer and no listener behind. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}

/** A wait that `ring` ends early. What rings while nobody waits ends the next wait at once. */
export interface Bell {
  ring(): void;
  /** Resolves when it rings, after `ms`, or when the signal aborts; true where it rang. */
  wait(ms: number, signal: AbortSignal): Promise<boolean>;
}

export function createBell(): Bell {
  let hasRung = false;
  let wake: (() => void) | null = null;
  return {
    ring() {
      hasRung = true;
      wake?.();
    },
    async wait(ms, signal) {
      if (!hasRung) {
        const early = new AbortController();
        wake = () => early.abort();
        const abort = (): void => early.abort();
        signal.addEventListener('abort', abort, { once: true });
        if (signal.aborted) early.abort();
        await pause(ms, early.signal);
        signal.removeEventListener('abort', abort);
        wake = null;
      }
      const rang = hasRung;
      hasRung = false;
      return rang;
    },
  };
}

/** Waits that double from `firstMs` up to `mostMs`, each up to a quarter shorter at random. */
export interface Backoff {
  next(): number;
  reset(): void;
}

export function createBackoff(firstMs: number, mostMs: number, random: () => number): Backoff {
  let ms = firstMs;
  return {
    next() {
      const delayMs = ms * (1 - random() / 4);
      ms = Math.min(ms * 2, mostMs);
      return delayMs;
    },
    reset() {
      ms = firstMs;
    },
  };
}
