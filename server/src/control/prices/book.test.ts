import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitForUpdate } from '@pydantic/genai-prices';
import { compileBook } from './book.ts';
import { type BookDocument, bookDocument, canonicalText, documentText } from './book-document.ts';
import { compileMatch } from './match-rule.ts';
import { packageBook } from './package-book.ts';
import { hasTokenPrice } from './price-entry.ts';
import { tokenKinds } from './rates.ts';

const book = compileBook(await packageBook());
const now = Date.UTC(2026, 5, 1);

function oneModel(prices: BookDocument['providers'][number]['models'][number]['prices']) {
  return compileBook(
    bookDocument.parse({
      name: 'genai-prices-0.0.0',
      providers: [
        { id: 'p', api_pattern: 'https://p', models: [{ id: 'm', match: { equals: 'm' }, prices }] },
      ],
    }),
  );
}

test('every entry of the package parses, and every price by tokens is found again under its own name', async () => {
  const raw = (await waitForUpdate()) ?? [];
  assert.ok(raw.length > 30);
  let checked = 0;
  for (const provider of raw) {
    for (const { id } of provider.models) {
      const entry = book.find(provider.id, id);
      if (entry !== null && entry.provider === provider.id) checked += 1;
    }
  }
  assert.ok(checked > 1_300, `${checked} entries found by their own id`);
  assert.ok(book.entries.length > 1_400);
  for (const entry of book.entries) {
    for (const { price } of entry.conditional) {
      assert.match(price.hash, /^[0-9a-f]{16}$/);
      for (const { rates } of price.tiers) {
        for (const kind of tokenKinds) assert.ok((rates[kind] ?? 0n) >= 0n);
      }
    }
  }
});

test('prices are those of the package to the last digit, by decimal text and never by float', async () => {
  const raw = (await waitForUpdate()) ?? [];
  let compared = 0;
  for (const provider of raw) {
    for (const model of provider.models) {
      if (Array.isArray(model.prices) || typeof model.prices['input_mtok'] !== 'number') continue;
      const entry = book.entries.find((one) => one.provider === provider.id && one.model === model.id);
      const [whole = '', part = ''] = String(model.prices['input_mtok']).split('.');
      const femtoPerMillion = BigInt(whole + part.padEnd(15, '0').slice(0, 15));
      if (part.length > 9 || entry === undefined) continue;
      assert.equal((entry.priceAt(now).tiers[0].rates.input ?? -1n) * 1_000_000n, femtoPerMillion, model.id);
      compared += 1;
    }
  }
  assert.ok(compared > 1_000, `${compared} compared`);
});

test('known prices: a plain model, a dated name in both spellings, a fallback of another provider', () => {
  const price = book.find('openai', 'gpt-4o')?.priceAt(now);
  assert.equal(price?.tiers[0].rates.input, 2_500_000_000n);
  assert.equal(price.tiers[0].rates.output, 10_000_000_000n);
  assert.equal(price.tiers[0].rates.cached_input, 1_250_000_000n);
  assert.equal(book.find('openai', 'gpt-4o-20240806'), book.find('openai', 'gpt-4o-2024-08-06'));
  assert.equal(book.find('azure', 'gpt-4o')?.provider, 'openai');
  assert.equal(book.find('OpenAI', ' GPT-4o ')?.model, 'gpt-4o');
});

test('what the book does not know has no price', () => {
  assert.equal(book.find('openai', 'mock-gpt'), null);
  assert.equal(book.find('nobody', 'gpt-4o'), null);
  assert.equal(book.find('openai', 'whisper-1'), null);
});

test('a provider is recognised by its address, and a server of the operator is none', () => {
  assert.equal(book.providerOfUrl('https://api.openai.com/v1'), 'openai');
  assert.equal(book.providerOfUrl('https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1'), 'aws');
  for (const url of [
    'http://127.0.0.1:9000/v1',
    'http://openai.internal/v1',
    'http://localhost/api.openai.com',
    '',
  ]) {
    assert.equal(book.providerOfUrl(url), null, url);
  }
});

test('thresholds that the package states per kind become tiers of all kinds', () => {
  const tiered = oneModel([
    {
      prices: {
        input_mtok: {
          base: '1',
          tiers: [
            { start: 200_000, price: '2' },
            { start: 100_000, price: '1.5' },
          ],
        },
        output_mtok: { base: '8', tiers: [{ start: 200_000, price: '12' }] },
        cache_read_mtok: '0.1',
      },
    },
  ]).find('p', 'm');
  const tiers = tiered
    ?.priceAt(now)
    .tiers.map(({ label, rates }) => [label, rates.input, rates.output, rates.cached_input]);
  assert.deepEqual(tiers, [
    ['base', 1_000_000_000n, 8_000_000_000n, 100_000_000n],
    ['input>100000', 1_500_000_000n, 8_000_000_000n, 100_000_000n],
    ['input>200000', 2_000_000_000n, 12_000_000_000n, 100_000_000n],
  ]);
});

test('a price from a date, and one at certain hours that may go over midnight', () => {
  const dated = oneModel([
    { prices: { input_mtok: '4' } },
    { constraint: { start_date: '2026-01-01' }, prices: { input_mtok: '3' } },
  ]).find('p', 'm');
  const inputAt = (entry: typeof dated, atMs: number) => entry?.priceAt(atMs).tiers[0].rates.input;
  assert.equal(inputAt(dated, Date.UTC(2026, 0, 1) - 1), 4_000_000_000n);
  assert.equal(inputAt(dated, Date.UTC(2026, 0, 1)), 3_000_000_000n);
  assert.notEqual(dated?.priceAt(0).hash, dated?.priceAt(now).hash);
  const nightly = oneModel([
    { prices: { input_mtok: '4' } },
    { constraint: { start_time: '22:00:00Z', end_time: '06:30:00Z' }, prices: { input_mtok: '1' } },
  ]).find('p', 'm');
  const at = (hours: number, minutes: number) => inputAt(nightly, Date.UTC(2026, 4, 4, hours, minutes));
  assert.deepEqual(
    [at(21, 59), at(22, 0), at(3, 0), at(6, 29), at(6, 30)],
    [4n, 1n, 1n, 1n, 4n].map((n) => n * 1_000_000_000n),
  );
});

test('where only constrained prices exist and none holds, the first one applies', () => {
  const later = oneModel([{ constraint: { start_date: '2030-01-01' }, prices: { input_mtok: '3' } }]).find(
    'p',
    'm',
  );
  assert.equal(later?.priceAt(now).tiers[0].rates.input, 3_000_000_000n);
});

test('a model that is priced by the hour or the page only has no price by tokens', () => {
  assert.equal(oneModel([{ prices: { audio_hours: '0.36', requests_kcount: '5' } }]).find('p', 'm'), null);
  for (const entry of book.entries) assert.ok(entry.conditional.some(({ price }) => hasTokenPrice(price)));
});

test('every rule of the package matches as the package means it', () => {
  const cases: readonly (readonly [Parameters<typeof compileMatch>[0], string, boolean])[] = [
    [{ equals: 'GPT-4o' }, 'gpt-4O', true],
    [{ equals: 'gpt-4o' }, 'gpt-4o-mini', false],
    [{ starts_with: 'claude-2' }, 'Claude-2.1', true],
    [{ ends_with: ':free' }, 'x:free', true],
    [{ ends_with: ':free' }, 'x:freed', false],
    [{ contains: 'haiku' }, 'claude-3-haiku-x', true],
    [{ regex: '^o[134]' }, 'o3-mini', true],
    [{ regex: '^o[134]' }, 'go3', false],
    [{ and: [{ starts_with: 'a' }, { ends_with: 'z' }] }, 'abz', true],
    [{ and: [{ starts_with: 'a' }, { ends_with: 'z' }] }, 'ab', false],
    [{ or: [{ equals: 'a' }, { equals: 'b' }] }, 'b', true],
    [{ or: [] }, 'b', false],
  ];
  for (const [rule, name, expected] of cases)
    assert.equal(compileMatch(rule)(name), expected, JSON.stringify(rule));
});

test('a book comes back from its text as it was, and the same book has the same text', async () => {
  const document = await packageBook();
  const text = documentText(document);
  const again = bookDocument.parse(JSON.parse(text));
  assert.equal(documentText(again), text);
  const compiled = compileBook(again);
  const hashes = (entries: typeof book.entries) => entries.map((entry) => entry.priceAt(now).hash).join();
  assert.equal(hashes(compiled.entries), hashes(book.entries));
});

test('equal values have equal canonical text, whatever the order of their members, and lists keep theirs', () => {
  assert.equal(
    canonicalText({ b: { d: 1, c: [2, 1] }, a: null }),
    canonicalText({ a: null, b: { c: [2, 1], d: 1 } }),
  );
  assert.equal(canonicalText({ b: 1, a: [2, 1] }), '{"a":[2,1],"b":1}');
});
