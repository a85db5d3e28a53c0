import { randomUUID } from 'node:crypto';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { memoryBroadcast } from './memory/broadcast.ts';
import { memoryCache } from './memory/cache.ts';
import { memoryLeases } from './memory/leases.ts';
import { memoryLimits } from './memory/limits.ts';
import { memoryRollCall } from './memory/roll-call.ts';
import { declareCacheMetrics } from './metrics.ts';
import { redisAddress } from './redis/address.ts';
import { redisBroadcast } from './redis/broadcast.ts';
import { redisCache } from './redis/cache.ts';
import { redisConnection } from './redis/connection.ts';
import { redisLeases } from './redis/leases.ts';
import { redisLimits } from './redis/limits.ts';
import { redisRollCall } from './redis/roll-call.ts';
import type { Broadcast, Cache, Leases, Limits, RollCall } from './types.ts';

export { limitRuleFault } from './gcra.ts';
export { type ChangeReader, hearChanges } from './hear-changes.ts';
export { memoryBroadcast } from './memory/broadcast.ts';
export { memoryLimits, type MemoryLimits } from './memory/limits.ts';
export { memoryRollCall } from './memory/roll-call.ts';
export { redisUrlFault } from './redis/address.ts';
export type * from './types.ts';

export interface CacheDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** From 0 up to 1. */
  readonly random: () => number;
}

export interface CacheSettings {
  /** Null: all of it lives in this process. */
  readonly redisUrl: string | null;
  /** In front of every key; default `stoa:`. */
  readonly prefix?: string;
  /** Milliseconds for each call to Redis; default 100. */
  readonly deadlineMs?: number;
}

export interface CacheModule {
  readonly cache: Cache;
  readonly limits: Limits;
  readonly leases: Leases;
  readonly broadcast: Broadcast;
  readonly rollCall: RollCall;
  /** `start` resolves after the first attempt to connect, whatever came of it, within a second or so. */
  readonly lifecycle: Lifecycle;
  /** Named `redis`; null without one. */
  readonly health: HealthPart | null;
}

/**
 * What processes share for a while: cache, limits, leases, word of changes, and how many they are. See README.md. Throws where the URL's form
 * is wrong or a file that it names can't be read, with a message without credentials.
 */
export function createCache(deps: CacheDeps, settings: CacheSettings): CacheModule {
  return settings.redisUrl === null ? inMemory(deps) : onRedis(deps, settings, settings.redisUrl);
}

function inMemory({ clock, logger, metrics }: CacheDeps): CacheModule {
  declareCacheMetrics(metrics, () => true);
  return {
    cache: memoryCache(clock),
    limits: memoryLimits(clock),
    leases: memoryLeases(clock),
    broadcast: memoryBroadcast(logger),
    rollCall: memoryRollCall,
    lifecycle: { start: () => Promise.resolve(), stop: () => Promise.resolve() },
    health: null,
  };
}

function onRedis(deps: CacheDeps, settings: CacheSettings, redisUrl: string): CacheModule {
  const prefix = settings.prefix ?? 'stoa:';
  const counters = declareCacheMetrics(deps.metrics, () => connection.isUp);
  const connection = redisConnection(
    { ...deps, onCall: (outcome) => counters.calls.add(1, { outcome }) },
    {
      address: redisAddress(redisUrl),
      ...(settings.deadlineMs === undefined ? {} : { deadlineMs: settings.deadlineMs }),
    },
  );
  return {
    cache: redisCache(connection, prefix),
    limits: redisLimits(connection, { prefix }),
    leases: redisLeases(connection, prefix),
    broadcast: redisBroadcast(connection, prefix, {
      logger: deps.logger,
      onPublished: (outcome) => counters.published.add(1, { outcome }),
      onReceived: (outcome) => counters.received.add(1, { outcome }),
    }),
    rollCall: redisRollCall(connection, randomUUID(), { prefix, logger: deps.logger }),
    lifecycle: { start: () => connection.start(), stop: () => connection.stop() },
    health: { name: 'redis', isHealthy: () => connection.isUp },
  };
}
