import assert from 'node:assert/strict';
import { test } from 'node:test';
import { priceOverride } from '@stoa/contracts';
import type { Target } from '#models';
import { createPricesApi } from './api.ts';
import { compileBook } from './book.ts';
import { priceIdOf, type ReadyOverride, readyOverride, subjectOf, termsOf } from './overrides.ts';
import { packageBook } from './package-book.ts';
import { createPriceList } from './price-list.ts';

const book = compileBook(await packageBook());
const now = Date.UTC(2026, 5, 1);
const counts = {
  input_tokens: 1_000_000,
  output_tokens: 0,
  cached_input_tokens: 0,
  cache_write_tokens: 0,
  reasoning_tokens: 0,
  input_audio_tokens: 0,
  output_audio_tokens: 0,
  estimated: false,
};
const dollar = 10n ** 15n;

function target(id: string, provider: string | null, baseUrl = 'http://127.0.0.1:9/v1', model = id): Target {
  return {
    id,
    kind: 'chat',
    model,
    provider: {
      id: 'our-server',
      kind: 'openai-compatible',
      baseUrl,
      credential: null,
      headers: {},
      credentialId: 'c',
      maxConcurrency: 1,
    },
    isGenerative: true,
    contextTokens: null,
    maxOutputTokens: null,
    deadlines: { wholeMs: 1, firstFrameMs: 1, betweenFramesMs: 1 },
    createdAt: 0,
    ownedBy: 'x',
    source: 'api',
    priceKey: { provider, model },
  };
}

function stated(revision: number, body: unknown, validFromMs = 0): ReadyOverride {
  const override = priceOverride.parse(body);
  const subject = subjectOf(override);
  const id = priceIdOf(subject, 'override');
  return readyOverride({
    ...subject,
    id,
    revision,
    terms: termsOf(override),
    validFromMs,
    note: null,
    createdBy: 'k',
  });
}

function api(revision: number, overrides: readonly ReadyOverride[]) {
  const list = createPriceList(book, revision, overrides);
  return createPricesApi(
    () => list,
    () => now,
  );
}

function inputDollars(prices: ReturnType<typeof api>, of: Target, atMs = now): bigint | undefined {
  const rated = prices.rate(of, counts, atMs);
  return rated ? (rated.costFemto * 100n) / dollar : undefined;
}

test('a server of the operator that calls a model by a public name gets no made-up price', () => {
  const prices = api(0, []);
  const local = target('gpt-4o', null);
  assert.equal(prices.isPriced(local), false);
  assert.equal(prices.rate(local, counts, now), null);
  assert.equal(prices.upperBound(local, 1, 1, now), null);
  assert.equal(prices.describe(local, now), null);
  assert.equal(prices.isPriced(target('mock-gpt', 'openai')), false);
});

test('the book applies where the provider is named, or its address is known', () => {
  const prices = api(0, []);
  assert.equal(inputDollars(prices, target('gpt-4o', 'openai')), 250n);
  assert.equal(inputDollars(prices, target('x', null, 'https://api.openai.com/v1', 'gpt-4o')), 250n);
  assert.deepEqual(prices.describe(target('gpt-4o', 'openai'), now), {
    input: '0.0000025',
    output: '0.00001',
  });
});

test('a rating names the version of the book, and the hash, tier and unit of what was applied', () => {
  const rated = api(3, []).rate(target('gpt-4o', 'openai'), counts, now);
  assert.equal(rated?.priceVersion, `${book.name}+3`);
  assert.equal(rated.price.hash, book.find('openai', 'gpt-4o')?.priceAt(now).hash);
  assert.deepEqual([rated.price.tier, rated.price.unit], ['base', 'token']);
  assert.equal(rated.chargeFemto, rated.costFemto);
});

test('the narrowest override wins: target, then provider and model, then model, then the book', () => {
  const overrides = [
    stated(1, { model: 'GPT-4o', rates: { input: '4' } }),
    stated(2, { provider: 'openai', model: 'gpt-4o', rates: { input: '3' } }),
    stated(3, { provider: 'our-server', model: 'gpt-4o', rates: { input: '5' } }),
    stated(4, { target: 'fast', rates: { input: '2' } }),
  ];
  const prices = api(4, overrides);
  assert.equal(inputDollars(prices, target('fast', 'openai', '', 'gpt-4o')), 200n);
  assert.equal(inputDollars(prices, target('gpt-4o', 'openai')), 300n);
  assert.equal(inputDollars(prices, target('gpt-4o', null)), 500n);
  assert.equal(inputDollars(api(1, overrides.slice(0, 1)), target('gpt-4o', null)), 400n);
});

test('the newest statement that is valid already counts, and one for later waits for its time', () => {
  const prices = api(3, [
    stated(1, { target: 't', rates: { input: '1' } }, now - 100),
    stated(2, { target: 't', rates: { input: '2' } }, now + 1_000),
    stated(3, { target: 't', rates: { input: '3' } }, now - 50),
  ]);
  const t = target('t', null);
  assert.equal(inputDollars(prices, t, now - 101), undefined);
  assert.equal(inputDollars(prices, t, now - 100), 100n);
  assert.equal(inputDollars(prices, t, now - 50), 300n);
  assert.equal(inputDollars(prices, t, now + 2_000), 300n);
  const scheduled = api(2, [
    stated(1, { target: 't', rates: { input: '1' } }, now - 100),
    stated(2, { target: 't', rates: { input: '2' } }, now + 1_000),
  ]);
  assert.equal(inputDollars(scheduled, t, now + 999), 100n);
  assert.equal(inputDollars(scheduled, t, now + 1_000), 200n);
});

test('an override that was taken back lets the look-up go on to the book', () => {
  const first = stated(1, { provider: 'openai', model: 'gpt-4o', rates: { input: '9' } });
  const back = readyOverride({ ...first, revision: 2, terms: null, validFromMs: now });
  const prices = api(2, [first, back]);
  assert.equal(inputDollars(prices, target('gpt-4o', 'openai'), now - 1), 900n);
  assert.equal(inputDollars(prices, target('gpt-4o', 'openai'), now), 250n);
});

test('an override states prices per token, thousand or million, and tiers that keep what they leave out', () => {
  const prices = api(1, [
    stated(1, { target: 'a', per: 1, rates: { input: '0.000002' } }),
    stated(1, { target: 'b', per: 1_000, rates: { input: '0.002' } }),
    stated(1, {
      target: 'c',
      rates: { input: '2', output: '7', per_request: '0.25' },
      tiers: [{ above_input_tokens: 999_999, input: '4' }],
    }),
  ]);
  assert.equal(inputDollars(prices, target('a', null)), 200n);
  assert.equal(inputDollars(prices, target('b', null)), 200n);
  assert.equal(inputDollars(prices, target('c', null)), 425n);
  const rated = prices.rate(target('c', null), { ...counts, output_tokens: 1_000_000 }, now);
  assert.equal(rated?.costFemto, 11n * dollar + dollar / 4n);
  assert.equal(rated.price.tier, 'input>999999');
});

test('equal terms have one hash and other terms another, whatever the order they were written in', () => {
  const hash = (body: unknown) => stated(1, body).price?.hash;
  const one = hash({ target: 't', rates: { input: '1', output: '2' } });
  assert.equal(hash({ rates: { output: '2', input: '1' }, target: 't' }), one);
  assert.notEqual(hash({ target: 't', rates: { input: '1', output: '3' } }), one);
  assert.notEqual(hash({ target: 'u', rates: { input: '1', output: '2' } }), one);
});

test('an override must name one subject, hold a price by tokens in decimal text, and rising tiers', () => {
  const bad: readonly unknown[] = [
    { rates: { input: '1' } },
    { target: 't', model: 'm', rates: { input: '1' } },
    { target: 't', provider: 'p', rates: { input: '1' } },
    { provider: 'p', rates: { input: '1' } },
    { target: 't', rates: {} },
    { target: 't', rates: { per_request: '1' } },
    { target: 't', rates: { input: 1 } },
    { target: 't', rates: { input: '-1' } },
    { target: 't', rates: { input: '1e3' } },
    { target: 't', rates: { input: '1', other: '1' } },
    { target: 't', per: 10, rates: { input: '1' } },
    {
      target: 't',
      rates: { input: '1' },
      tiers: [
        { above_input_tokens: 5, input: '1' },
        { above_input_tokens: 5, input: '2' },
      ],
    },
  ];
  for (const body of bad) assert.equal(priceOverride.safeParse(body).success, false, JSON.stringify(body));
});

test('before the start nothing is priced, and nothing throws', () => {
  const prices = createPricesApi(
    () => null,
    () => now,
  );
  const known = target('gpt-4o', 'openai');
  assert.equal(prices.isPriced(known), false);
  assert.equal(prices.rate(known, counts, now), null);
  assert.equal(prices.upperBound(known, 1, 1, now), null);
  assert.equal(prices.describe(known, now), null);
});
