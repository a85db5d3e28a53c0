/**
 * What several partitions bring for one consumer at about the same time, in one transaction. A transaction costs some six
 * round trips whatever it holds, and a steady stream spread over 64 partitions would have one for every event or two: so
 * while some are under way, what comes waits and goes together. It grows with the load by itself, and nothing waits
 * where there is little.
 */
export interface Joint<Item> {
  /** Resolves when these have been run, in this order, with what others added; rejects where that run did. */
  add(items: readonly Item[]): Promise<void>;
}

export interface JointSettings {
  /** Runs at once. */
  readonly atOnce: number;
  /** Items of one run; what one caller adds stays together, and is at most this much. */
  readonly most: number;
}

interface Waiting<Item> {
  readonly items: readonly Item[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export function createJoint<Item>(
  run: (items: readonly Item[]) => Promise<void>,
  { atOnce, most }: JointSettings,
): Joint<Item> {
  let waiting: Waiting<Item>[] = [];
  let running = 0;

  function take(): readonly Waiting<Item>[] {
    let size = 0;
    const fitting = waiting.findIndex(({ items }) => {
      size += items.length;
      return size > most;
    });
    const taken = waiting.slice(0, fitting === -1 ? waiting.length : Math.max(1, fitting));
    waiting = waiting.slice(taken.length);
    return taken;
  }

  function begin(): void {
    if (running >= atOnce || waiting.length === 0) return;
    const taken = take();
    running += 1;
    run(taken.flatMap(({ items }) => items))
      .then(
        () => {
          for (const { resolve } of taken) resolve();
        },
        (error: unknown) => {
          for (const { reject } of taken) reject(error);
        },
      )
      .finally(() => {
        running -= 1;
        begin();
      });
  }

  return {
    add: (items) =>
      new Promise((resolve, reject) => {
        waiting.push({ items, resolve, reject });
        begin();
      }),
  };
}
