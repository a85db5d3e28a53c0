import { createClient } from '@redis/client';
import type { RedisAddress } from './address.ts';

/** Bounds what waits to be written and what waits for an answer, together. */
const maximumQueuedCommands = 10_000;

export interface RedisClientSettings {
  /** Milliseconds until a connection attempt without an answer is given up. */
  readonly connectTimeoutMs: number;
}

/**
 * One connection of the library, never reconnected by it: connection.ts does that, with one deadline, one backoff and
 * one place that knows whether the line is up. RESP 3, so that messages and answers share a connection (Redis 6 and newer).
 */
export function redisClient(address: RedisAddress, { connectTimeoutMs }: RedisClientSettings) {
  const { host, port, username, password, database, tls } = address;
  const line = { host, port, connectTimeout: connectTimeoutMs, reconnectStrategy: false } as const;
  return createClient({
    RESP: 3,
    socket: tls === null ? line : { ...line, tls: true, ...defined(tls) },
    ...defined({ username, password }),
    database,
    name: 'stoa',
    disableOfflineQueue: true,
    commandsQueueMaxLength: maximumQueuedCommands,
    // Its own deadline costs an AbortSignal a command, and does not run while a command waits for its answer.
    commandOptions: { timeout: 0 },
    maintNotifications: 'disabled',
  });
}

export type RedisClient = ReturnType<typeof redisClient>;

/** Without the members that are undefined: the library takes them for set. */
function defined<Values extends object>(
  values: Values,
): { [Name in keyof Values]?: NonNullable<Values[Name]> } {
  const kept: { [Name in keyof Values]?: NonNullable<Values[Name]> } = {};
  for (const name in values) {
    const value = values[name];
    if (value !== undefined && value !== null) kept[name] = value;
  }
  return kept;
}
