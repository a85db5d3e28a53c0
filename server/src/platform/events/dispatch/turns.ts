/**
 * Who works beside whom in this process. What an event's handler does may end the process; so what is suspected of that
 * is tried alone, with no other event under way here, and a death then tells which event it was. All else works together.
 *
 * First come, first served: what works together waits behind one that wants to be alone, and that one for those who came
 * before it. So neither starves the other, and the process alternates where there is much of both.
 */
export interface Turns {
  /** Runs beside any other work of this kind. */
  together<T>(work: () => Promise<T>): Promise<T>;
  /** Runs while nothing else does. Must not be asked for inside of either kind: it would wait for itself. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

interface Waiting {
  readonly isAlone: boolean;
  readonly begin: () => void;
}

export function createTurns(): Turns {
  const waiting: Waiting[] = [];
  let running = 0;
  let isAloneRunning = false;

  function admit(): void {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      if (isAloneRunning || (next.isAlone && running > 0)) return;
      waiting.shift();
      running += 1;
      isAloneRunning = next.isAlone;
      next.begin();
    }
  }

  async function run<T>(isAlone: boolean, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((begin) => {
      waiting.push({ isAlone, begin });
      admit();
    });
    try {
      return await work();
    } finally {
      running -= 1;
      if (isAlone) isAloneRunning = false;
      admit();
    }
  }

  return {
    together: (work) => run(false, work),
    alone: (work) => run(true, work),
  };
}
