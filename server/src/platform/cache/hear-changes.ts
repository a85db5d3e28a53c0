import type { Logger } from '#kernel';
import type { Broadcast, BroadcastMessage } from './types.ts';

export interface HearChangesDeps {
  readonly broadcast: Broadcast;
  readonly logger: Logger;
}

export interface ChangeReader {
  /** Reads what these messages say has changed, in the order in which they came. */
  apply(messages: readonly BroadcastMessage[]): Promise<void>;
  /** Reads whatever may have changed. */
  readAll(): Promise<void>;
}

/** Messages that wait while earlier ones are applied; with more it is quicker to read all. */
const waitingAtMost = 1_000;

/**
 * Hands the messages of some topics to a reader, one batch at a time: what comes meanwhile is the next batch, so that a
 * burst of changes costs few queries. What was missed, and what was too much, is read by `readAll`. A reader that rejects is
 * logged; the poll that stands beneath finds what it left. The answer ends it and resolves when the reader is done.
 */
export function hearChanges(
  { broadcast, logger }: HearChangesDeps,
  topics: readonly string[],
  reader: ChangeReader,
): () => Promise<void> {
  let waiting: BroadcastMessage[] = [];
  let isAllDue = false;
  let running: Promise<void> | null = null;
  const work = async (): Promise<void> => {
    while (isAllDue || waiting.length > 0) {
      const batch = waiting;
      const isAll = isAllDue;
      waiting = [];
      isAllDue = false;
      try {
        await (isAll ? reader.readAll() : reader.apply(batch));
      } catch (error) {
        logger.warn({ err: error }, 'what others say has changed could not be read; the next poll reads it');
      }
    }
    running = null;
  };
  const wake = (): void => {
    running ??= work();
  };
  const ends = topics.map((topic) =>
    broadcast.subscribe(topic, {
      onMessage(message) {
        if (waiting.length < waitingAtMost) waiting.push(message);
        else isAllDue = true;
        wake();
      },
      onMissed() {
        isAllDue = true;
        wake();
      },
    }),
  );
  return async () => {
    for (const end of ends) end();
    waiting = [];
    isAllDue = false;
    await running;
  };
}
