import type { MemoryLimits } from '#cache';
import { AppError } from '#kernel';
import { shareOf } from './share.ts';
import { sourceOf } from './source.ts';

/**
 * How many credentials an address may have looked up that turn out to be wrong. Each look-up takes one before the database
 * is asked, and one that finds a right key gives it back; so many right keys behind one address (a company's, a proxy's) cost
 * nothing. Keys that the process knows already never come here: whoever shares an address with a flood goes on.
 *
 * What is beyond the limit waits for its turn: once a second all that wait are looked up together, which is one query
 * whatever the flood, so that a right key that is new to the process gets in too, a second later. More than `waitingAtMost`
 * are refused.
 *
 * It counts in this process alone, with its share of the limit: asking Redis about garbage would hand the flood on.
 */
export interface UnknownKeyGuard {
  /**
   * @param clientAddress null where this process asks by itself, which never waits
   * @returns to be called where the credential was right; by a promise where it has to wait for its turn
   * @throws AppError `rate_limit_exceeded`
   */
  admit(clientAddress: string | null): (() => void) | Promise<() => void>;
}

export interface UnknownKeyGuardDeps {
  readonly ownLimits: MemoryLimits;
  readonly processCount: () => number;
  readonly onWaiting: () => void;
  readonly onRefused: () => void;
  /** Calls once, later; by default the system's timer. */
  readonly later?: (ms: number, work: () => void) => void;
}

const turnEveryMs = 1_000;
/** As many as one query of a look-up takes. */
const waitingAtMost = 500;
const nothing = (): void => undefined;

export function createUnknownKeyGuard(
  { ownLimits, processCount, onWaiting, onRefused, later = afterTime }: UnknownKeyGuardDeps,
  perMinute: number,
): UnknownKeyGuard {
  let waiting: ((giveBack: () => void) => void)[] = [];
  const letIn = (): void => {
    const turn = waiting;
    waiting = [];
    for (const go of turn) go(nothing);
  };
  return {
    admit(clientAddress) {
      if (clientAddress === null) return nothing;
      const request = shareOf(
        {
          tenantId: 'platform',
          key: `unknown-keys ${sourceOf(clientAddress)}`,
          limit: perMinute,
          periodMs: 60_000,
          burst: perMinute,
          cost: 1,
        },
        processCount(),
      );
      const { isAllowed, takenAtUs } = ownLimits.takeAll([request]);
      if (isAllowed) return () => ownLimits.correct({ ...request, used: 0, takenAtUs });
      if (waiting.length >= waitingAtMost) {
        onRefused();
        const message = 'Too many wrong keys came from this address; try again in a moment.';
        throw new AppError('rate_limit_exceeded', message, { retryAfterMs: turnEveryMs });
      }
      onWaiting();
      if (waiting.length === 0) later(turnEveryMs, letIn);
      return new Promise((resolve) => waiting.push(resolve));
    },
  };
}

function afterTime(ms: number, work: () => void): void {
  setTimeout(work, ms);
}
