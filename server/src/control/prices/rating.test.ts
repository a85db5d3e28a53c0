import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Usage } from '@stoa/contracts';
import fc from 'fast-check';
import { baseTier, ratesOf, type RateTexts, type RateTiers, tierAbove, tokenKinds } from './rates.ts';
import { costOf, dearestCost, splitUsage } from './rating.ts';

function usage(counts: Partial<Usage>): Usage {
  return {
    input_tokens: 0,
    output_tokens: 0,
    cached_input_tokens: 0,
    cache_write_tokens: 0,
    reasoning_tokens: 0,
    input_audio_tokens: 0,
    output_audio_tokens: 0,
    estimated: false,
    ...counts,
  };
}

function flat(texts: RateTexts): RateTiers {
  return [baseTier(ratesOf(texts))];
}

const count = fc.nat({ max: 2_000_000_000 });
const anyUsage = fc
  .record({
    input_tokens: count,
    output_tokens: count,
    cached_input_tokens: count,
    cache_write_tokens: count,
    reasoning_tokens: count,
    input_audio_tokens: count,
    output_audio_tokens: count,
  })
  .map(usage);
const anyText = fc
  .tuple(fc.nat({ max: 500 }), fc.nat({ max: 999_999 }))
  .map(([whole, part]) => `${whole}.${part}`);
const anyTexts = fc.record(
  {
    input: anyText,
    output: anyText,
    cached_input: anyText,
    cache_write: anyText,
    input_audio: anyText,
    output_audio: anyText,
    reasoning: anyText,
    per_request: anyText,
  },
  { requiredKeys: ['input', 'output'] },
);

test('a cost is the sum that one gets by hand in decimals', () => {
  // 1,234 x 0.15 + 567 x 0.6 USD per million: 185.1 + 340.2 = 525.3 millionths
  const cost = costOf(
    flat({ input: '0.15', output: '0.6' }),
    usage({ input_tokens: 1234, output_tokens: 567 }),
  );
  assert.equal(cost?.costFemto, 525_300_000_000n);
});

test('each kind costs its own price: cached, cache write, audio and reasoning by hand', () => {
  const texts = {
    input: '3',
    cached_input: '0.3',
    cache_write: '3.75',
    input_audio: '32',
    output: '15',
    output_audio: '64',
    reasoning: '20',
    per_request: '5',
  };
  const counts = usage({
    input_tokens: 1000, // 200 cached, 100 written, 50 audio, 650 plain
    cached_input_tokens: 200,
    cache_write_tokens: 100,
    input_audio_tokens: 50,
    output_tokens: 500, // 30 audio, 70 reasoning, 400 plain
    output_audio_tokens: 30,
    reasoning_tokens: 70,
  });
  // USD per million: 650x3 + 200x0.3 + 100x3.75 + 50x32 = 3,985; 400x15 + 30x64 + 70x20 = 9,320; 5/1,000 a request
  assert.equal(
    costOf(flat(texts), counts)?.costFemto,
    (3_985n + 9_320n) * 1_000_000_000n + 5_000_000_000_000n,
  );
});

test('a kind without a price of its own costs what the plain kind of its side costs', () => {
  const counts = usage({
    input_tokens: 100,
    cached_input_tokens: 40,
    output_tokens: 10,
    reasoning_tokens: 9,
  });
  const plain = usage({ input_tokens: 100, output_tokens: 10 });
  const tiers = flat({ input: '1', output: '2' });
  assert.equal(costOf(tiers, counts)?.costFemto, costOf(tiers, plain)?.costFemto);
});

test('tokens that have no price at all leave the whole request without one', () => {
  assert.equal(costOf(flat({ input: '1' }), usage({ input_tokens: 5, output_tokens: 1 })), null);
  assert.equal(costOf(flat({ output: '1' }), usage({ input_tokens: 5 })), null);
  assert.equal(costOf(flat({ input: '1' }), usage({ input_tokens: 5 }))?.costFemto, 5_000_000_000n);
  assert.equal(
    costOf(flat({ input: '0', output: '0' }), usage({ input_tokens: 5, output_tokens: 5 }))?.costFemto,
    0n,
  );
});

test('what is finer than a femto-dollar was rounded half to even before the sum, so the sum is of whole rates', () => {
  // 0.0000000025 USD a million tokens is 2.5 femto-dollars a token: 2 by half-even; 0.0000000035 is 3.5: 4.
  assert.equal(costOf(flat({ input: '0.0000000025' }), usage({ input_tokens: 1_000 }))?.costFemto, 2_000n);
  assert.equal(costOf(flat({ input: '0.0000000035' }), usage({ input_tokens: 1_000 }))?.costFemto, 4_000n);
});

test('a tier applies above its threshold, not at it, and to the output too', () => {
  const tiers: RateTiers = [
    baseTier(ratesOf({ input: '1', output: '10' })),
    tierAbove(200_000, ratesOf({ input: '2', output: '15' })),
  ];
  const at = costOf(tiers, usage({ input_tokens: 200_000, output_tokens: 1 }));
  const above = costOf(tiers, usage({ input_tokens: 200_001, output_tokens: 1 }));
  assert.deepEqual([at?.tier.label, at?.costFemto], ['base', 200_010_000_000_000n]);
  assert.deepEqual([above?.tier.label, above?.costFemto], ['input>200000', 400_017_000_000_000n]);
});

test('every token is priced exactly once: the parts of any usage add up to its totals', () => {
  fc.assert(
    fc.property(anyUsage, (counts) => {
      const { output, output_audio, reasoning, ...inputs } = splitUsage(counts);
      assert.equal(
        Object.values(inputs).reduce((sum, part) => sum + part, 0),
        counts.input_tokens,
      );
      assert.equal(output + output_audio + reasoning, counts.output_tokens);
      for (const part of Object.values(splitUsage(counts))) assert.ok(part >= 0);
    }),
  );
});

test('the whole is the sum of its parts, to the last femto-dollar, for any usage and prices', () => {
  fc.assert(
    fc.property(anyUsage, anyTexts, (counts, texts) => {
      const tiers = flat(texts);
      const whole = costOf(tiers, counts)?.costFemto;
      const parts = splitUsage(counts);
      const alone = [
        usage({ input_tokens: parts.input }),
        usage({ input_tokens: parts.cached_input, cached_input_tokens: parts.cached_input }),
        usage({ input_tokens: parts.cache_write, cache_write_tokens: parts.cache_write }),
        usage({ input_tokens: parts.input_audio, input_audio_tokens: parts.input_audio }),
        usage({ output_tokens: parts.output }),
        usage({ output_tokens: parts.output_audio, output_audio_tokens: parts.output_audio }),
        usage({ output_tokens: parts.reasoning, reasoning_tokens: parts.reasoning }),
      ];
      assert.equal(alone.length, tokenKinds.length);
      const perRequest = tiers[0].rates.perRequest ?? 0n;
      const sum = alone.reduce(
        (total, one) => total + (costOf(tiers, one)?.costFemto ?? 0n) - perRequest,
        perRequest,
      );
      assert.equal(whole, sum);
    }),
  );
});

test('the bound that is reserved before a call is never below what the call then costs', () => {
  const tiersOf = (base: RateTexts, above: RateTexts): RateTiers => [
    baseTier(ratesOf(base)),
    tierAbove(100_000, ratesOf(above)),
  ];
  fc.assert(
    fc.property(anyUsage, anyTexts, anyTexts, fc.nat({ max: 1000 }), (counts, base, above, slack) => {
      const tiers = tiersOf(base, above);
      const bound = dearestCost(tiers, counts.input_tokens + slack, counts.output_tokens + slack, 1);
      const cost = costOf(tiers, counts)?.costFemto;
      assert.ok(bound !== null && cost !== undefined && bound >= cost);
    }),
  );
});

test('there is no bound where tokens may come that have no price', () => {
  assert.equal(dearestCost(flat({ input: '1' }), 10, 10, 1), null);
  assert.equal(dearestCost(flat({ input: '1' }), 10, 0, 1), 10_000_000_000n);
});
