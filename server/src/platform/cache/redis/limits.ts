import { checkedCost, gcraScale } from '../gcra.ts';
import { ownedKey } from '../keys.ts';
import type { LimitOutcome, LimitRequest, Limits } from '../types.ts';
import { numbersIn } from './answers.ts';
import type { RedisConnection } from './connection.ts';
import { redisScript } from './script.ts';

/** The server's clock in microseconds: one for all processes, whatever theirs say. */
const serverClock = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
`;

/**
 * gcra.ts, step by step. KEYS: the state. ARGV: weight, drain, burst, cost. A state is kept for as long as its debt is, and
 * a minute more, since a time to live counts by another clock of the server.
 */
const step = `
local weight, drain, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local debt = 0
local kept = redis.call('GET', KEYS[1])
local kept_debt, kept_at, kept_weight, kept_drain
if kept then
  kept_debt, kept_at, kept_weight, kept_drain = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
end
if kept_debt then
  kept_debt, kept_at = tonumber(kept_debt), tonumber(kept_at)
  kept_weight, kept_drain = tonumber(kept_weight), tonumber(kept_drain)
  local elapsed = math.max(0, now - kept_at)
  if elapsed < math.ceil(kept_debt / kept_drain) then debt = kept_debt - elapsed * kept_drain end
  if kept_weight == weight and kept_drain == drain then
    debt = math.min(debt, burst * weight)
  else
    debt = math.min(math.ceil(debt / kept_weight), burst) * weight
  end
end
local retry = 0
if cost > burst then
  retry = -1
elseif debt + cost * weight > burst * weight then
  retry = math.ceil(math.ceil((debt + cost * weight - burst * weight) / drain) / 1000)
else
  debt = debt + cost * weight
  if cost > 0 then
    local life = math.ceil(math.ceil(debt / drain) / 1000) + 60000
    local state = string.format('%.0f %.0f %.0f %.0f', debt, now, weight, drain)
    redis.call('SET', KEYS[1], state, 'PX', string.format('%.0f', life))
  end
end
return { math.floor((burst * weight - debt) / weight), retry, math.ceil(math.ceil(debt / drain) / 1000) }
`;

const byServerClock = redisScript(serverClock + step);
const byGivenClock = redisScript(`local now = tonumber(ARGV[5])\n${step}`);

export interface RedisLimitsSettings {
  readonly prefix: string;
  /** Instead of the server's clock, for tests that move it. Whole microseconds. */
  readonly nowUs?: () => number;
}

export function redisLimits(connection: RedisConnection, { prefix, nowUs }: RedisLimitsSettings): Limits {
  const script = nowUs ? byGivenClock : byServerClock;
  return {
    take(request: LimitRequest): Promise<LimitOutcome> {
      const { weight, drain, burst } = gcraScale(request);
      const numbers = [weight, drain, burst, checkedCost(request.cost), ...(nowUs ? [nowUs()] : [])];
      const keys = [`${prefix}limit:${ownedKey(request)}`];
      return connection.run(script, keys, numbers.map(String)).then(outcomeIn);
    },
  };
}

function outcomeIn(answer: unknown): LimitOutcome {
  const [remaining = 0, retryAfterMs = 0, resetAfterMs = 0] = numbersIn(answer);
  return {
    isAllowed: retryAfterMs === 0,
    remaining,
    retryAfterMs: retryAfterMs < 0 ? null : retryAfterMs,
    resetAfterMs,
  };
}
