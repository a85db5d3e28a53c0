import { BoundedMap } from '#kernel';
import { checkedTtl } from '../keys.ts';
import type { Lease, Leases } from '../types.ts';
import { textIn } from './answers.ts';
import type { RedisConnection } from './connection.ts';
import { redisScript } from './script.ts';

/**
 * Leases in Redis, which ends them by its own clock.
 *
 * The fence is the largest of: the server's time in microseconds, the last fence and 1, and what the caller knows and 1.
 * The first makes it grow where the server lost its data: whatever was given before was at most the time of then, since
 * nobody acquires a lease more than once a microsecond. The second covers a server whose clock went back. Where both
 * come together (a replica that lost the last fence takes over, with a clock behind), the third does: each process
 * remembers the fences that it has seen, and a caller that keeps fences with its rows says the largest of them.
 *
 * Redis acknowledges before its replica has a write, so two holders at once are possible at a failover. That is what
 * fences are for: the rows that a holder writes must refuse a smaller one.
 */
const acquireScript = redisScript(`
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+ (.*)$') ~= ARGV[1] then return false end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local fence = string.format('%.0f', math.max(now, last + 1, tonumber(ARGV[3]) + 1))
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], fence, 'PX', ARGV[4])
return fence
`);

const renewScript = redisScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`);

const releaseScript = redisScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`);

/** How long the last fence of a name outlives its lease; it matters only while a clock is behind. */
const fenceLifeMs = 30 * 24 * 60 * 60 * 1000;
const rememberedNames = 1_000;

export function redisLeases(connection: RedisConnection, prefix: string): Leases {
  const seen = new BoundedMap<string, { fence: number }>(rememberedNames, () => ({ fence: 0 }));
  const heldAs = ({ fence, holder }: Lease): string => `${fence} ${holder}`;
  const keyOf = (name: string): string => `${prefix}lease:${name}`;
  return {
    async acquire({ name, holder, ttlMs, above = 0 }) {
      const known = seen.get(name);
      const answer = await connection.run(
        acquireScript,
        [keyOf(name), `${prefix}fence:${name}`],
        [holder, String(checkedTtl(ttlMs)), String(Math.max(above, known.fence)), String(fenceLifeMs)],
      );
      const text = textIn(answer);
      if (text === null) return null;
      known.fence = Number(text);
      return { name, holder, fence: known.fence };
    },
    async renew(lease, ttlMs) {
      const args = [heldAs(lease), String(checkedTtl(ttlMs))];
      return (await connection.run(renewScript, [keyOf(lease.name)], args)) === 1;
    },
    async release(lease) {
      return (await connection.run(releaseScript, [keyOf(lease.name)], [heldAs(lease)])) === 1;
    },
  };
}
