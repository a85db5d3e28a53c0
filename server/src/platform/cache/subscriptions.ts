import type { Logger } from '#kernel';
import type { BroadcastHandlers, BroadcastMessage } from './types.ts';

/** Who listens to what in this process. */
export class Subscriptions {
  readonly #byTopic = new Map<string, Set<BroadcastHandlers>>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(topic: string, handlers: BroadcastHandlers): () => void {
    const of = this.#byTopic.get(topic) ?? new Set();
    this.#byTopic.set(topic, of.add(handlers));
    return () => {
      of.delete(handlers);
    };
  }

  tell(message: BroadcastMessage): void {
    for (const handlers of this.#byTopic.get(message.topic) ?? [])
      this.#run(message.topic, () => handlers.onMessage(message));
  }

  tellMissed(): void {
    for (const [topic, of] of this.#byTopic) {
      for (const handlers of of) this.tellMissedTo(topic, handlers);
    }
  }

  tellMissedTo(topic: string, handlers: BroadcastHandlers): void {
    this.#run(topic, () => handlers.onMissed());
  }

  #run(topic: string, handler: () => void): void {
    try {
      handler();
    } catch (error) {
      this.#logger.error({ err: error, topic }, 'a listener to what others changed failed');
    }
  }
}
