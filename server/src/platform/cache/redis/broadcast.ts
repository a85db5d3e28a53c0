import type { Logger } from '#kernel';
import { z } from 'zod';
import { Subscriptions } from '../subscriptions.ts';
import type { Broadcast, BroadcastMessage } from '../types.ts';
import type { RedisConnection } from './connection.ts';

/** Unknown members are passed over, so that a newer process may say more. */
const messageShape = z.object({
  topic: z.string().max(64),
  tenantId: z.string().max(64).optional(),
  key: z.string().max(256).optional(),
  version: z.int().nonnegative(),
});

export interface RedisBroadcastDeps {
  readonly logger: Logger;
  readonly onPublished: (outcome: 'sent' | 'failed') => void;
  readonly onReceived: (outcome: 'read' | 'unreadable') => void;
}

/** By Redis's own publish and subscribe, on one channel; to be made before the connection is started. */
export function redisBroadcast(
  connection: RedisConnection,
  prefix: string,
  { logger, onPublished, onReceived }: RedisBroadcastDeps,
): Broadcast {
  const subscriptions = new Subscriptions(logger);
  const channel = `${prefix}broadcast`;
  const hear = (text: string): void => {
    const message = messageIn(text);
    onReceived(message === null ? 'unreadable' : 'read');
    if (message !== null) subscriptions.tell(message);
  };
  connection.listen(channel, hear, () => subscriptions.tellMissed());
  return {
    publish(message) {
      connection.send(['PUBLISH', channel, JSON.stringify(message)]).then(
        () => onPublished('sent'),
        () => onPublished('failed'),
      );
    },
    subscribe(topic, handlers) {
      const end = subscriptions.add(topic, handlers);
      // Who comes while the line is up has missed what was said before.
      if (connection.isUp) subscriptions.tellMissedTo(topic, handlers);
      return end;
    },
  };
}

function messageIn(text: string): BroadcastMessage | null {
  try {
    return messageShape.parse(JSON.parse(text));
  } catch {
    return null;
  }
}
