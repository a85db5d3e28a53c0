import { randomBytes } from 'node:crypto';
import { createClient } from '@redis/client';

/** A corner of the Redis server of this run, told from all others' by its prefix. */
export interface TestRedis {
  readonly url: string;
  /** In front of every key and channel of the test. */
  readonly prefix: string;
  /** The keys that lie under the prefix now. */
  keys(): Promise<string[]>;
  /** What a server that lost its data would have: nothing under the prefix. */
  empty(): Promise<void>;
  /** Runs one command as it is. */
  send(...args: string[]): Promise<unknown>;
  /** Deletes what was made. */
  close(): Promise<void>;
}

/** Whether this run has a Redis: with STOA_TEST_SERVICES=1 it has one. */
export function hasTestRedis(): boolean {
  return process.env['STOA_TEST_SERVICES'] === '1';
}

/** Redis is reached at STOA_TEST_REDIS_URL, default redis://127.0.0.1:6379. */
export async function openTestRedis(): Promise<TestRedis> {
  const url = process.env['STOA_TEST_REDIS_URL'] ?? 'redis://127.0.0.1:6379';
  const prefix = `stoa:test-${randomBytes(8).toString('hex')}:`;
  const client = createClient({ url, socket: { reconnectStrategy: false, connectTimeout: 5_000 } });
  client.on('error', () => undefined);
  await client.connect();
  const keys = async (): Promise<string[]> => {
    const found: string[] = [];
    for await (const some of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1000 })) found.push(...some);
    return found;
  };
  const empty = async (): Promise<void> => {
    const found = await keys();
    if (found.length > 0) await client.del(found);
  };
  return {
    url,
    prefix,
    keys,
    empty,
    send: (...args) => client.sendCommand(args),
    async close() {
      await empty();
      await client.close();
    },
  };
}
