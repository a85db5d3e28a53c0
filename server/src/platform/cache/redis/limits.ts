import { checkedCost, gcraScale } from '../gcra.ts';
import { checkedGroup, ownedKey } from '../keys.ts';
import type { LimitCorrection, LimitOutcome, LimitRequest, Limits, LimitsOutcome } from '../types.ts';
import { numbersIn } from './answers.ts';
import type { RedisConnection } from './connection.ts';
import { redisScript } from './script.ts';

/** The server's clock in microseconds: one for all processes, whatever theirs say. */
const serverClock = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
`;

/**
 * What the steps share, as in gcra.ts: what a key owes now, and keeping it. What lies in the future, by a clock that went
 * back (a failover to another machine, say), is set to now when it is read. A state is kept for as long as its debt is, and
 * a minute more, since a time to live counts by another clock of the server.
 */
const shared = `
local function ms(debt, drain) return math.ceil(math.ceil(debt / drain) / 1000) end
local function keep(key, debt, weight, drain)
  local state = string.format('%.0f %.0f %.0f %.0f', debt, now, weight, drain)
  redis.call('SET', key, state, 'PX', string.format('%.0f', ms(debt, drain) + 60000))
end
local function read(key)
  local kept = redis.call('GET', key)
  if not kept then return nil end
  local debt, at, weight, drain = string.match(kept, '^(%d+) (%d+) (%d+) (%d+)$')
  if not debt then return nil end
  local found = { debt = tonumber(debt), at = tonumber(at), weight = tonumber(weight), drain = tonumber(drain) }
  if found.at > now then
    found.at = now
    keep(key, found.debt, found.weight, found.drain)
  end
  return found
end
local function owed(kept, weight, drain, burst)
  if not kept then return 0 end
  local debt, elapsed = 0, now - kept.at
  if elapsed < math.ceil(kept.debt / kept.drain) then debt = kept.debt - elapsed * kept.drain end
  if kept.weight == weight and kept.drain == drain then return math.min(debt, 2 * burst * weight) end
  return math.min(math.ceil(debt / kept.weight), burst) * weight
end
`;

/**
 * gcra.ts, step by step, for all limits of a call: looks at each, and takes if none refuses. KEYS: the states. ARGV: weight,
 * drain, burst, cost of each. Answers the time, then for each what remains, when to come again, when all is paid off.
 */
const takeSteps = `
local answer, found, refused = { now }, {}, false
for i = 1, #KEYS do
  local weight, drain = tonumber(ARGV[i * 4 - 3]), tonumber(ARGV[i * 4 - 2])
  local burst, cost = tonumber(ARGV[i * 4 - 1]), tonumber(ARGV[i * 4])
  local debt, retry = owed(read(KEYS[i]), weight, drain, burst), 0
  if cost > burst then
    retry = -1
  elseif debt + cost * weight > burst * weight then
    retry = ms(debt + cost * weight - burst * weight, drain)
  end
  if retry ~= 0 then refused = true end
  found[i] = { debt = debt, retry = retry, weight = weight, drain = drain, burst = burst, cost = cost }
end
for i, one in ipairs(found) do
  local debt = one.debt
  if not refused then
    debt = debt + one.cost * one.weight
    if one.cost > 0 then keep(KEYS[i], debt, one.weight, one.drain) end
  end
  answer[#answer + 1] = math.max(0, math.floor((one.burst * one.weight - debt) / one.weight))
  answer[#answer + 1] = one.retry
  answer[#answer + 1] = ms(debt, one.drain)
end
return answer
`;

/** gcra.ts again. KEYS: the state. ARGV: weight, drain, burst, what was taken, what was used, when it was taken. */
const correctSteps = `
local weight, drain, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local cost, used, taken_at = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local kept = read(KEYS[1])
if used == cost or (kept and (kept.weight ~= weight or kept.drain ~= drain)) then return 0 end
local debt = owed(kept, weight, drain, burst)
if used > cost then
  keep(KEYS[1], math.min(debt + math.min(used - cost, burst) * weight, 2 * burst * weight), weight, drain)
  return 0
end
local taken, elapsed, unpaid = math.min(cost, burst) * weight, math.max(0, now - taken_at), 0
if elapsed < math.ceil(taken / drain) then unpaid = taken - elapsed * drain end
local back = math.min((cost - used) * weight, unpaid, debt)
if back > 0 then keep(KEYS[1], debt - back, weight, drain) end
return 0
`;

const givenClock = 'local now = tonumber(ARGV[#ARGV])\n';
const scripts = {
  byServer: {
    take: redisScript(serverClock + shared + takeSteps),
    correct: redisScript(serverClock + shared + correctSteps),
  },
  byTest: {
    take: redisScript(givenClock + shared + takeSteps),
    correct: redisScript(givenClock + shared + correctSteps),
  },
};

export interface RedisLimitsSettings {
  readonly prefix: string;
  /** Instead of the server's clock, for tests that move it. Whole microseconds. */
  readonly nowUs?: () => number;
}

export function redisLimits(connection: RedisConnection, { prefix, nowUs }: RedisLimitsSettings): Limits {
  const script = nowUs ? scripts.byTest : scripts.byServer;
  const argumentsOf = (numbers: readonly number[]): string[] =>
    [...numbers, ...(nowUs ? [nowUs()] : [])].map(String);
  const takeAll = (requests: readonly LimitRequest[]): Promise<LimitsOutcome> => {
    const keys = checkedGroup(requests).map((key) => `${prefix}limit:${key}`);
    const numbers = requests.flatMap(numbersOf);
    return connection.run(script.take, keys, argumentsOf(numbers)).then(outcomeIn);
  };
  return {
    take: (request) => takeAll([request]).then(({ outcomes: [outcome] }) => outcome ?? noOutcome()),
    takeAll,
    async correct(correction: LimitCorrection): Promise<void> {
      const { used, takenAtUs } = correction;
      const numbers = [...numbersOf(correction), checkedCost(used), takenAtUs];
      await connection.run(script.correct, [`${prefix}limit:${ownedKey(correction)}`], argumentsOf(numbers));
    },
  };
}

function numbersOf(request: LimitRequest): number[] {
  const { weight, drain, burst } = gcraScale(request);
  return [weight, drain, burst, checkedCost(request.cost)];
}

function outcomeIn(answer: unknown): LimitsOutcome {
  const [takenAtUs = 0, ...numbers] = numbersIn(answer);
  const outcomes: LimitOutcome[] = [];
  for (let index = 0; index + 2 < numbers.length; index += 3) {
    const [remaining = 0, retryAfterMs = 0, resetAfterMs = 0] = numbers.slice(index, index + 3);
    outcomes.push({
      isAllowed: retryAfterMs === 0,
      remaining,
      retryAfterMs: retryAfterMs < 0 ? null : retryAfterMs,
      resetAfterMs,
    });
  }
  return { isAllowed: outcomes.every(({ isAllowed }) => isAllowed), outcomes, takenAtUs };
}

function noOutcome(): never {
  throw new Error('the answer of Redis has another shape than its script gives');
}
