import { randomBytes } from 'node:crypto';
import { maximumTtlMs } from '../keys.ts';
import { type CacheStore, LoadingCache } from '../loading-cache.ts';
import type { Cache, Owner } from '../types.ts';
import { textsIn } from './answers.ts';
import type { RedisConnection } from './connection.ts';
import { redisScript } from './script.ts';

/**
 * Values in Redis, each with a time to live.
 *
 * All entries of an owner are deleted in one step by another generation: a random text under a key of the owner's, which
 * is part of the key of each value. Values of an older generation are found by nobody and end by their time. A generation
 * that was evicted takes its values along, since the next one is another.
 *
 * A load writes only under the generation that its read found, so that a deletion between the two, by any process, holds.
 */
const readScript = redisScript(`
local generation = redis.call('GET', KEYS[1])
if not generation then return { false, false } end
return { generation, redis.call('GET', KEYS[2] .. generation) }
`);

/** ARGV: value, milliseconds, a new generation, whether a turn is to be kept, the turn. */
const writeScript = redisScript(`
local generation = redis.call('GET', KEYS[1])
if ARGV[4] == '1' and (generation or '') ~= ARGV[5] then return 0 end
local ttl = tonumber(ARGV[2])
if not generation then
  generation = ARGV[3]
  redis.call('SET', KEYS[1], generation, 'PX', ttl)
elseif redis.call('PTTL', KEYS[1]) < ttl then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
redis.call('SET', KEYS[2] .. generation, ARGV[1], 'PX', ttl)
return 1
`);

const removeScript = redisScript(`
local generation = redis.call('GET', KEYS[1])
if generation then redis.call('UNLINK', KEYS[2] .. generation) end
return 1
`);

export function redisCache(connection: RedisConnection, prefix: string): Cache {
  return new LoadingCache(new RedisStore(connection, prefix));
}

class RedisStore implements CacheStore {
  readonly #connection: RedisConnection;
  readonly #prefix: string;

  constructor(connection: RedisConnection, prefix: string) {
    this.#connection = connection;
    this.#prefix = prefix;
  }

  async read(owner: Owner, key: string): Promise<{ value: string | null; turn: string | null }> {
    try {
      const answer = await this.#connection.run(readScript, this.#keys(owner, key), []);
      const [generation = null, value = null] = textsIn(answer);
      return { value, turn: generation ?? '' };
    } catch {
      // Counted by the connection. Nothing is known, so nothing may be written on the strength of this read.
      return { value: null, turn: 'unknown' };
    }
  }

  async write(
    owner: Owner,
    key: string,
    value: string,
    ttlMs: number,
    turn: string | null,
  ): Promise<boolean> {
    const generation = randomBytes(8).toString('hex');
    const args = [value, String(ttlMs), generation, turn === null ? '0' : '1', turn ?? ''];
    try {
      return (await this.#connection.run(writeScript, this.#keys(owner, key), args)) === 1;
    } catch {
      return false;
    }
  }

  async remove(owner: Owner, key: string): Promise<void> {
    await this.#connection.run(removeScript, this.#keys(owner, key), []);
  }

  async removeOwner(owner: Owner): Promise<void> {
    const generation = randomBytes(8).toString('hex');
    // Set, not deleted: a load that found no generation must not take the next absence for the same one.
    const command = ['SET', this.#generationKey(owner), generation, 'PX', String(maximumTtlMs)];
    await this.#connection.send(command);
  }

  #generationKey(owner: Owner): string {
    return `${this.#prefix}generation:${owner}`;
  }

  #keys(owner: Owner, key: string): string[] {
    return [this.#generationKey(owner), `${this.#prefix}cache:${key}:`];
  }
}
