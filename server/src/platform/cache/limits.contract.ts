/** What every adapter of the limits guarantees, as tests: the same answers as an exact oracle, whatever is asked when. */

import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { asTenantId } from '#kernel';
import type { LimitOutcome, LimitRule, Limits, LimitsOutcome } from './index.ts';

export interface LimitsSubject {
  readonly limits: Limits;
  /** Moves the clock to so many microseconds. */
  moveTo(us: number): void;
  close(): Promise<void>;
}

/** Of the random cases; in the test's name, so that a failure shows it. */
export const contractSeed = randomInt(1_000_000);

/**
 * GCRA in its usual form, by the theoretical arrival time, in exact fractions: all times are multiplied by `limit`, which
 * makes the emission interval (period / limit) whole.
 */
class Oracle {
  readonly #limit: bigint;
  readonly #interval: bigint;
  readonly #burst: bigint;
  #arrival = 0n;

  constructor({ limit, periodMs, burst }: LimitRule) {
    this.#limit = BigInt(limit);
    this.#interval = BigInt(periodMs) * 1000n;
    this.#burst = BigInt(burst);
  }

  take(nowUs: number, cost: number): LimitOutcome {
    const now = BigInt(nowUs) * this.#limit;
    const tolerance = this.#burst * this.#interval;
    const arrival = this.#arrival > now ? this.#arrival : now;
    const next = arrival + BigInt(cost) * this.#interval;
    const excess = next - now - tolerance;
    const isAllowed = excess <= 0n;
    this.#arrival = isAllowed ? next : arrival;
    const ahead = this.#arrival - now;
    const isPossible = BigInt(cost) <= this.#burst;
    const retryAfterMs = isAllowed ? 0 : this.#milliseconds(excess);
    return {
      isAllowed,
      remaining: Number((tolerance - ahead) / this.#interval),
      retryAfterMs: isPossible ? retryAfterMs : null,
      resetAfterMs: this.#milliseconds(ahead),
    };
  }

  /** What `take` would answer, nothing taken. */
  ask(nowUs: number, cost: number): LimitOutcome {
    const arrival = this.#arrival;
    const outcome = this.take(nowUs, cost);
    this.#arrival = arrival;
    return outcome;
  }

  #milliseconds(time: bigint): number {
    const unit = 1000n * this.#limit;
    return Number((time + unit - 1n) / unit);
  }
}

export const ruleArbitrary: fc.Arbitrary<LimitRule> = fc.oneof(
  fc.record({
    limit: fc.integer({ min: 1, max: 1000 }),
    periodMs: fc.constantFrom(1, 7, 1000, 60_000, 86_400_000),
    burst: fc.integer({ min: 1, max: 1000 }),
  }),
  fc.record({
    limit: fc.constantFrom(1, 3, 100_000, 1_000_000, 1_000_000_000),
    periodMs: fc.constantFrom(60_000, 3_600_000),
    burst: fc.constantFrom(1, 10, 10_000),
  }),
);

/** Waits and costs that meet the limit's edges: fractions and multiples of its interval, bursts and one more. */
export function callsArbitrary(rule: LimitRule): fc.Arbitrary<{ waitUs: number; cost: number }[]> {
  const intervalUs = Math.ceil((rule.periodMs * 1000) / rule.limit);
  const wait = fc.oneof(
    fc.constantFrom(0, 1, intervalUs - 1, intervalUs, intervalUs + 1),
    fc.integer({ min: 0, max: Math.min(intervalUs * rule.burst * 2, 2 ** 45) }),
  );
  const cost = fc.oneof(
    fc.constantFrom(0, 1, 1, 1, rule.burst, rule.burst + 1),
    fc.integer({ min: 1, max: rule.burst }),
  );
  return fc.array(fc.record({ waitUs: wait, cost }), { minLength: 1, maxLength: 25 });
}

/** About 2026 in microseconds, the size of number that a server's clock gives. */
export const startUs = 1_790_000_000_000_000;
const tenantId = asTenantId(randomUUID());

async function take(subject: LimitsSubject, key: string, rule: LimitRule, cost = 1): Promise<LimitOutcome> {
  return subject.limits.take({ tenantId, key, ...rule, cost });
}

function describeAnswers(subject: () => LimitsSubject, cases: number): void {
  test(`every answer is that of exact arithmetic (seed ${contractSeed})`, async () => {
    const scenario = ruleArbitrary.chain((rule) => fc.tuple(fc.constant(rule), callsArbitrary(rule)));
    const property = fc.asyncProperty(scenario, async ([rule, calls]) => {
      const key = randomUUID();
      const oracle = new Oracle(rule);
      let nowUs = startUs;
      for (const { waitUs, cost } of calls) {
        nowUs += waitUs;
        subject().moveTo(nowUs);
        assert.deepEqual(await take(subject(), key, rule, cost), oracle.take(nowUs, cost));
      }
    });
    await fc.assert(property, { seed: contractSeed, numRuns: cases });
  });
}

interface CallOfSome {
  readonly waitUs: number;
  readonly costs: readonly number[];
}

/** Some limits, and calls that take from all of them at once. */
const someLimits: fc.Arbitrary<readonly [readonly LimitRule[], readonly CallOfSome[]]> = fc
  .array(ruleArbitrary, { minLength: 1, maxLength: 4 })
  .chain((rules) => {
    const costs = fc.tuple(
      ...rules.map(({ burst }) => fc.integer({ min: 0, max: Math.ceil(burst * 0.7) + 1 })),
    );
    const longest = Math.min(...rules.map(({ periodMs, limit }) => Math.ceil((periodMs * 4000) / limit) + 1));
    const wait = fc.integer({ min: 0, max: longest });
    const calls = fc.array(fc.record({ waitUs: wait, costs }), { minLength: 1, maxLength: 12 });
    return fc.tuple(fc.constant(rules), calls);
  });

/** All or nothing, by the oracles of each. */
function expectedOf(oracles: readonly Oracle[], nowUs: number, costs: readonly number[]): LimitsOutcome {
  const asked = oracles.map((oracle, index) => oracle.ask(nowUs, costs[index] ?? 0));
  const isAllowed = asked.every((outcome) => outcome.isAllowed);
  const outcomes = oracles.map((oracle, index) => {
    const alone = asked[index];
    if (isAllowed) return oracle.take(nowUs, costs[index] ?? 0);
    if (alone?.isAllowed === false) return alone;
    return oracle.ask(nowUs, 0);
  });
  return { isAllowed, outcomes, takenAtUs: nowUs };
}

function describeTogether(subject: () => LimitsSubject, cases: number): void {
  test(`several limits are taken together or not at all, as exact arithmetic says (seed ${contractSeed})`, async () => {
    const property = fc.asyncProperty(someLimits, async ([rules, calls]) => {
      const keys = rules.map(() => randomUUID());
      const oracles = rules.map((rule) => new Oracle(rule));
      let nowUs = startUs;
      for (const { waitUs, costs } of calls) {
        nowUs += waitUs;
        subject().moveTo(nowUs);
        const requests = rules.map((rule, index) => ({
          tenantId,
          key: keys[index] ?? '',
          ...rule,
          cost: costs[index] ?? 0,
        }));
        assert.deepEqual(await subject().limits.takeAll(requests), expectedOf(oracles, nowUs, costs));
      }
    });
    await fc.assert(property, { seed: contractSeed, numRuns: cases });
  });

  test('one limit twice in a call, none and too many are refused', async () => {
    const one = { tenantId, key: 'twice', limit: 1, periodMs: 1000, burst: 1, cost: 1 };
    const many = Array.from({ length: 65 }, (_, index) => ({ ...one, key: `k${index}` }));
    for (const wrong of [[one, one], [], many])
      await assert.rejects(async () => subject().limits.takeAll(wrong), RangeError);
  });
}

interface CorrectedCall {
  readonly waitUs: number;
  readonly cost: number;
  /** Of a thousand parts of the cost. */
  readonly used: number;
  /** After how many later calls the use is known. */
  readonly knownAfter: number;
}

const correctedCalls: fc.Arbitrary<readonly [LimitRule, readonly CorrectedCall[]]> = ruleArbitrary.chain(
  (rule) => {
    const intervalUs = Math.ceil((rule.periodMs * 1000) / rule.limit);
    const call = fc.record({
      waitUs: fc.integer({ min: 0, max: Math.min(intervalUs * rule.burst, 2 ** 45) }),
      cost: fc.integer({ min: 1, max: rule.burst }),
      used: fc.constantFrom(0, 1, 10, 500, 999, 1000),
      knownAfter: fc.integer({ min: 0, max: 5 }),
    });
    return fc.tuple(fc.constant(rule), fc.array(call, { minLength: 1, maxLength: 25 }));
  },
);

/** Exactly: over any window, what was used of the calls admitted in it is at most the burst and what the window pays off. */
export function assertNoWindowExceeded(
  rule: LimitRule,
  admitted: readonly { atUs: number; used: number }[],
): void {
  const periodUs = BigInt(rule.periodMs) * 1000n;
  for (const [first, { atUs: fromUs }] of admitted.entries()) {
    let used = 0n;
    for (const call of admitted.slice(first)) {
      used += BigInt(call.used);
      const most = BigInt(rule.burst) * periodUs + BigInt(rule.limit) * BigInt(call.atUs - fromUs);
      assert.ok(used * periodUs <= most, `${used} from ${fromUs} to ${call.atUs}`);
    }
  }
}

function describeCorrections(subject: () => LimitsSubject, cases: number): void {
  test(`over no window more than the limit is used, whenever estimates are corrected (seed ${contractSeed})`, async () => {
    const property = fc.asyncProperty(correctedCalls, async ([rule, calls]) => {
      const key = randomUUID();
      const open: { due: number; cost: number; used: number; takenAtUs: number }[] = [];
      const admitted: { atUs: number; used: number }[] = [];
      let nowUs = startUs;
      for (const [turn, { waitUs, cost, used, knownAfter }] of calls.entries()) {
        nowUs += waitUs;
        subject().moveTo(nowUs);
        for (const done of open.filter(({ due }) => due === turn))
          await subject().limits.correct({ tenantId, key, ...rule, ...done });
        const { isAllowed, takenAtUs } = await subject().limits.takeAll([{ tenantId, key, ...rule, cost }]);
        if (!isAllowed) continue;
        const known = Math.floor((cost * used) / 1000);
        admitted.push({ atUs: nowUs, used: known });
        open.push({ due: turn + 1 + knownAfter, cost, used: known, takenAtUs });
      }
      assertNoWindowExceeded(rule, admitted);
    });
    await fc.assert(property, { seed: contractSeed, numRuns: cases });
  });

  test('what was not used is given back, as far as time has not paid it off', async () => {
    const call = { tenantId, key: randomUUID(), limit: 60, periodMs: 60_000, burst: 100, cost: 100 };
    subject().moveTo(startUs);
    const { takenAtUs } = await subject().limits.takeAll([call]);
    await subject().limits.correct({ ...call, used: 10, takenAtUs });
    assert.equal((await subject().limits.take({ ...call, cost: 90 })).remaining, 0);
    subject().moveTo(startUs + 30_000_000);
    await subject().limits.correct({ ...call, cost: 90, used: 0, takenAtUs });
    assert.equal((await subject().limits.take({ ...call, cost: 0 })).remaining, 90, '60 of 90, not all 90');
  });

  test('what was used beyond the estimate is owed, up to the burst once more', async () => {
    const call = { tenantId, key: randomUUID(), limit: 1, periodMs: 1_000, burst: 10, cost: 10 };
    subject().moveTo(startUs);
    const { takenAtUs } = await subject().limits.takeAll([call]);
    await subject().limits.correct({ ...call, used: 14, takenAtUs });
    assert.equal((await subject().limits.take({ ...call, cost: 1 })).retryAfterMs, 5_000);
    await subject().limits.correct({ ...call, used: 1_000_000_000, takenAtUs });
    const blocked = await subject().limits.take({ ...call, cost: 1 });
    assert.deepEqual(blocked, { isAllowed: false, remaining: 0, retryAfterMs: 11_000, resetAfterMs: 20_000 });
  });

  test('a correction under a rule that is another by now changes nothing', async () => {
    const call = { tenantId, key: randomUUID(), limit: 1, periodMs: 3_600_000, burst: 10, cost: 4 };
    subject().moveTo(startUs);
    const { takenAtUs } = await subject().limits.takeAll([call]);
    await subject().limits.take({ ...call, limit: 2, cost: 1 });
    await subject().limits.correct({ ...call, used: 0, takenAtUs });
    await subject().limits.correct({ ...call, used: 9, takenAtUs });
    assert.equal((await subject().limits.take({ ...call, limit: 2, cost: 0 })).remaining, 5);
  });
}

function describeWaits(subject: () => LimitsSubject): void {
  test('who waits for as long as told is allowed, and not a microsecond of the last millisecond before', async () => {
    const rule = { limit: 3, periodMs: 1000, burst: 2 };
    subject().moveTo(startUs);
    assert.deepEqual(
      [await take(subject(), 'wait', rule), await take(subject(), 'wait', rule)].map((o) => o.isAllowed),
      [true, true],
    );
    const refused = await take(subject(), 'wait', rule);
    assert.deepEqual(refused, { isAllowed: false, remaining: 0, retryAfterMs: 334, resetAfterMs: 667 });
    subject().moveTo(startUs + 333_333);
    assert.equal((await take(subject(), 'wait', rule)).isAllowed, false);
    subject().moveTo(startUs + 333_334);
    assert.equal((await take(subject(), 'wait', rule)).isAllowed, true);
  });

  test('one tenant, one key and the platform are limited apart', async () => {
    const rule = { limit: 1, periodMs: 3_600_000, burst: 1 };
    subject().moveTo(startUs);
    const owners = [asTenantId(randomUUID()), asTenantId(randomUUID()), 'platform'] as const;
    const key = randomUUID();
    for (const owner of owners) {
      const call = { tenantId: owner, key, ...rule, cost: 1 };
      assert.equal((await subject().limits.take(call)).isAllowed, true);
      assert.equal((await subject().limits.take(call)).isAllowed, false);
      assert.equal((await subject().limits.take({ ...call, key: `${key} 2` })).isAllowed, true);
    }
  });
}

function describeOddities(subject: () => LimitsSubject): void {
  test('a clock that goes back gives nothing away and blocks nobody for good', async () => {
    const rule = { limit: 1, periodMs: 1000, burst: 1 };
    subject().moveTo(startUs);
    assert.equal((await take(subject(), 'back', rule)).isAllowed, true);
    subject().moveTo(startUs - 3_600_000_000);
    assert.deepEqual(await take(subject(), 'back', rule), {
      isAllowed: false,
      remaining: 0,
      retryAfterMs: 1000,
      resetAfterMs: 1000,
    });
    // Together with one that would let it pass, which keeps nothing of it.
    subject().moveTo(startUs - 7_200_000_000);
    const both = ['back', 'beside'].map((key) => ({ tenantId, key, ...rule, cost: 1 }));
    assert.equal((await subject().limits.takeAll(both)).isAllowed, false);
    subject().moveTo(startUs - 7_200_000_000 + 999_999);
    assert.equal((await take(subject(), 'back', rule)).isAllowed, false);
    subject().moveTo(startUs - 7_200_000_000 + 1_000_000);
    assert.equal((await subject().limits.takeAll(both)).isAllowed, true);
  });

  test('a changed rule takes the debt over in requests', async () => {
    subject().moveTo(startUs);
    const hour = 3_600_000;
    assert.equal((await take(subject(), 'plan', { limit: 10, periodMs: hour, burst: 10 }, 7)).remaining, 3);
    assert.equal((await take(subject(), 'plan', { limit: 100, periodMs: hour, burst: 20 }, 0)).remaining, 13);
    assert.equal((await take(subject(), 'plan', { limit: 100, periodMs: hour, burst: 5 }, 0)).remaining, 0);
  });

  test('rules that no whole numbers hold are refused', async () => {
    const rule = { limit: 1, periodMs: 1000, burst: 1 };
    for (const wrong of [
      { limit: 0 },
      { limit: 1.5 },
      { periodMs: -1 },
      { burst: Number.NaN },
      { limit: 1_000_003, periodMs: 86_400_000, burst: 1_000_003 },
    ])
      await assert.rejects(async () => take(subject(), 'wrong', { ...rule, ...wrong }), RangeError);
    for (const cost of [-1, 0.5, Infinity])
      await assert.rejects(async () => take(subject(), 'wrong', rule, cost), RangeError);
  });
}

export function describeLimitsContract(
  adapter: string,
  options: { readonly cases: number },
  open: () => Promise<LimitsSubject>,
): void {
  describe(`limits, ${adapter}`, () => {
    let opened: LimitsSubject;
    before(async () => {
      opened = await open();
    });
    after(() => opened.close());
    describeAnswers(() => opened, options.cases);
    describeTogether(() => opened, options.cases);
    describeCorrections(() => opened, options.cases);
    describeWaits(() => opened);
    describeOddities(() => opened);
  });
}
