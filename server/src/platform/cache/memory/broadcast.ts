import type { Logger } from '#kernel';
import { Subscriptions } from '../subscriptions.ts';
import type { Broadcast } from '../types.ts';

/** Among the parts of one process, each message a turn later. Nothing is ever missed but what was told before subscribing. */
export function memoryBroadcast(logger: Logger): Broadcast {
  const subscriptions = new Subscriptions(logger);
  return {
    publish(message) {
      queueMicrotask(() => subscriptions.tell(message));
    },
    subscribe(topic, handlers) {
      const end = subscriptions.add(topic, handlers);
      let isEnded = false;
      queueMicrotask(() => {
        if (!isEnded) subscriptions.tellMissedTo(topic, handlers);
      });
      return () => {
        isEnded = true;
        end();
      };
    },
  };
}
