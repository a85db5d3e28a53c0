import type { TimerTask } from '#jobs';
import { longestHoldDays } from '../retention.ts';
import { expireConsumed } from './deliveries.sql.ts';

/**
 * A week beyond the log itself, and as long as it may be held for a reader, so that nothing the log or a carrier may still
 * bring is taken for new.
 */
const daysBeyondTheLog = longestHoldDays + 7;
const rowsAtOnce = 10_000;

/** Once an hour: forgets what consumers have handled, once no carrier can bring it any more. */
export function inboxRetention(eventDays: number): TimerTask {
  return {
    name: 'event-inbox-retention',
    everyMs: 3_600_000,
    deadlineMs: 600_000,
    async run({ signal, withSystem }) {
      for (const table of ['inbox', 'positions'] as const) {
        for (;;) {
          const gone = await withSystem('event-dispatch', (tx) =>
            expireConsumed(tx, table, eventDays + daysBeyondTheLog, rowsAtOnce),
          );
          if (gone < rowsAtOnce || signal.aborted) break;
        }
      }
    },
  };
}
