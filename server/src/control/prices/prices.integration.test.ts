import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type PriceDiff, price, priceDiff } from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import type { Route } from '#http';
import {
  AppError,
  asRequestId,
  type Logger,
  manualClock,
  newUuid,
  type OperatorPrincipal,
  silentLogger,
} from '#kernel';
import type { Target } from '#models';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createPrices, type PricesModule } from './index.ts';

const operator: OperatorPrincipal = { kind: 'operator', keyId: '00operator01', role: 'operator' };
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

function target(id: string, provider: string | null, model = id): Target {
  return {
    id,
    kind: 'chat',
    model,
    provider: {
      id: 'local',
      kind: 'openai-compatible',
      baseUrl: 'http://127.0.0.1:9/v1',
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

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

async function call(
  routes: readonly Route[],
  id: string,
  input: { params?: unknown; query?: unknown; body?: unknown; ifMatch?: string },
): Promise<Reply> {
  const route = routes.find(({ endpoint }) => endpoint.id === id);
  assert.ok(route?.kind === 'json');
  const context = {
    requestId: asRequestId(newUuid()),
    publicRequestId: 'req_test',
    clientRequestId: null,
    traceparent: null,
    clientAddress: '127.0.0.1',
    userAgent: null,
    ifMatch: input.ifMatch ?? null,
    idempotencyKey: null,
  };
  const raw = { params: input.params ?? {}, query: input.query ?? {}, body: input.body };
  const reply = await route.handle(raw, operator, context);
  const schema = route.endpoint.responses[reply.status]?.schema;
  assert.ok(schema !== undefined, `${id} declares no ${reply.status}`);
  schema.parse(reply.body);
  return { status: reply.status, body: reply.body };
}

const pageShape = z.object({
  data: z.array(price),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

function refuses(code: string): (error: unknown) => boolean {
  return (error) => error instanceof AppError && error.code === code;
}

for (const adapter of testedAdapters()) {
  const named = (text: string): string => `${text} (${adapter})`;
  let database: TestDatabase;
  const started: PricesModule[] = [];
  const clock = manualClock(Date.now());

  /** A process of its own on the same database; polls only when told to, or each `pollEveryMs`. */
  async function startProcess(pollEveryMs = 3_600_000, logger: Logger = silentLogger): Promise<PricesModule> {
    const prices = createPrices({ db: database.db, clock, logger }, { pollEveryMs });
    await prices.lifecycle.start();
    started.push(prices);
    return prices;
  }

  async function importEntries(prices: PricesModule, body: unknown): Promise<PriceDiff> {
    return priceDiff.parse((await call(prices.routes, 'prices.import', { body })).body);
  }

  const dollarsOf = (prices: PricesModule, of: Target): string | undefined =>
    prices.api.describe(of, clock.now())?.input;
  const versionOf = (prices: PricesModule): string | undefined =>
    prices.api.rate(target('gpt-4o', 'openai'), counts, clock.now())?.priceVersion;

  before(async () => {
    database = await openTestDatabase({ adapter });
  });
  after(async () => {
    for (const prices of started) await prices.lifecycle.stop();
    await database.close();
  });

  test(
    named('two processes that start at once on an empty database keep one book, as revision 0'),
    async () => {
      const [first, second] = await Promise.all([startProcess(), startProcess()]);
      assert.match(versionOf(first) ?? '', /^genai-prices-\d+\.\d+\.\d+\+0$/);
      assert.equal(versionOf(first), versionOf(second));
      assert.deepEqual([first.health.isHealthy(), second.health.isHealthy()], [true, true]);
      const rows = await database.db.withSystem('prices', async (tx) => {
        const books = await sql<{ name: string }>`select name from platform.price_books`.execute(tx);
        const revisions = await sql<{ kind: string }>`select kind from platform.price_revisions`.execute(tx);
        return { books: books.rows.length, kinds: revisions.rows.map(({ kind }) => kind) };
      });
      assert.deepEqual(rows, { books: 1, kinds: ['seed'] });
    },
  );

  test(
    named('an override counts at once where it was made, and within a poll in another process'),
    async () => {
      const here = await startProcess();
      const elsewhere = await startProcess(20);
      const before = versionOf(here);
      const made = price.parse(
        (
          await call(here.routes, 'prices.override', {
            body: { target: 'local-llm', rates: { input: '0.25' }, note: 'power' },
          })
        ).body,
      );
      assert.equal(dollarsOf(here, target('local-llm', null)), '0.00000025');
      assert.equal(made.version, 1);
      assert.equal(made.price_version, versionOf(here));
      assert.notEqual(versionOf(here), before);
      assert.equal(made.hash, here.api.rate(target('local-llm', null), counts, clock.now())?.price.hash);
      while (versionOf(elsewhere) !== versionOf(here)) await new Promise((resolve) => setImmediate(resolve));
      assert.equal(dollarsOf(elsewhere, target('local-llm', null)), '0.00000025');
    },
  );

  test(
    named('stating the same price again is no new revision; If-Match holds a change to what was read'),
    async () => {
      const prices = await startProcess();
      const body = { target: 'local-llm', rates: { input: '0.25' }, note: 'power' };
      const again = price.parse((await call(prices.routes, 'prices.override', { body })).body);
      assert.equal(again.version, 1);
      const other = { target: 'local-llm', rates: { input: '0.5' } };
      await assert.rejects(
        call(prices.routes, 'prices.override', { body: other, ifMatch: '"7"' }),
        refuses('version_conflict'),
      );
      const changed = price.parse(
        (await call(prices.routes, 'prices.override', { body: other, ifMatch: '"1"' })).body,
      );
      assert.equal(changed.version, 2);
      assert.equal(changed.id, again.id);
    },
  );

  test(
    named('a dry run shows the diff and changes nothing; the import then does what was shown'),
    async () => {
      const prices = await startProcess();
      const before = versionOf(prices);
      const entries = [
        { target: 'local-llm', rates: { input: '0.75' } },
        { provider: 'openai', model: 'gpt-4o', rates: { input: '2', output: '8' } },
      ];
      const shown = await importEntries(prices, { entries, dry_run: true });
      assert.deepEqual(
        [
          shown.added_count,
          shown.changed_count,
          shown.removed_count,
          shown.unchanged_count,
          shown.price_version,
        ],
        [1, 1, 0, 0, before],
      );
      assert.equal(versionOf(prices), before);
      assert.equal(dollarsOf(prices, target('gpt-4o', 'openai')), '0.0000025');
      const applied = await importEntries(prices, { entries });
      assert.deepEqual([applied.added, applied.changed], [shown.added, shown.changed]);
      assert.equal(applied.price_version, versionOf(prices));
      assert.equal(dollarsOf(prices, target('gpt-4o', 'openai')), '0.000002');
      const repeated = await importEntries(prices, { entries });
      assert.deepEqual([repeated.unchanged_count, repeated.price_version], [2, applied.price_version]);
    },
  );

  test(named('`replace` takes back what the list lacks, and the book applies again'), async () => {
    const prices = await startProcess();
    const entries = [{ target: 'local-llm', rates: { input: '0.75' } }];
    const diff = await importEntries(prices, { entries, mode: 'replace' });
    assert.deepEqual(
      [diff.added_count, diff.changed_count, diff.removed_count, diff.unchanged_count],
      [0, 0, 1, 1],
    );
    assert.equal(diff.removed[0]?.model, 'gpt-4o');
    assert.equal(dollarsOf(prices, target('gpt-4o', 'openai')), '0.0000025');
    await assert.rejects(importEntries(prices, { entries: [...entries, ...entries] }), refuses('conflict'));
  });

  test(named('a price for later waits for its time, and taking it back takes both back'), async () => {
    const prices = await startProcess();
    const t = target('later', null);
    await call(prices.routes, 'prices.override', { body: { target: 'later', rates: { input: '1' } } });
    const validFrom = new Date(clock.now() + 60_000).toISOString();
    const { body } = await call(prices.routes, 'prices.override', {
      body: { target: 'later', rates: { input: '2' }, valid_from: validFrom },
    });
    assert.equal(dollarsOf(prices, t), '0.000001');
    clock.advance(60_000);
    assert.equal(dollarsOf(prices, t), '0.000002');
    const { id } = price.parse(body);
    await call(prices.routes, 'prices.remove_override', { params: { id } });
    assert.equal(dollarsOf(prices, t), undefined);
    await assert.rejects(
      call(prices.routes, 'prices.remove_override', { params: { id } }),
      refuses('not_found'),
    );
  });

  test(
    named('every revision stays: who stated what, when, and in which version it came into force'),
    async () => {
      const rows = await database.db.withSystem('prices', async (tx) => {
        const { rows: found } = await sql<{ revision: bigint; kind: string; created_by: string }>`
        select revision, kind, created_by from platform.price_revisions order by revision
      `.execute(tx);
        return found;
      });
      assert.deepEqual(
        rows.map(({ revision }) => Number(revision)),
        rows.map((_, index) => index),
      );
      assert.ok(rows.slice(1).every(({ created_by }) => created_by === operator.keyId));
      for (const statement of [
        'update platform.price_revisions set book = book',
        'delete from platform.prices',
      ]) {
        await assert.rejects(
          database.db.withOperator({ operator: 'system:test' }, 'try', (tx) =>
            sql.raw(statement).execute(tx),
          ),
          'nothing that was in force can be changed',
        );
      }
    },
  );

  test(
    named('a book that was kept by another version goes on pricing until the package is imported'),
    async () => {
      const content = JSON.stringify({
        name: 'genai-prices-0.0.1',
        providers: [
          {
            api_pattern: 'https://api\\.openai\\.com',
            id: 'openai',
            models: [
              { id: 'gpt-4o', match: { equals: 'gpt-4o' }, prices: [{ prices: { input_mtok: '99' } }] },
            ],
          },
        ],
      });
      const { shortHash } = await import('./book-document.ts');
      await database.db.withSystem('prices', async (tx) => {
        await sql`insert into platform.price_books (name, content, content_hash)
        values ('genai-prices-0.0.1', ${content}, ${shortHash(content)})`.execute(tx);
        await sql`update platform.price_state set book = 'genai-prices-0.0.1', revision = revision + 1`.execute(
          tx,
        );
        await sql`insert into platform.price_revisions (revision, book, kind, created_by)
        select revision, book, 'import', 'system:test' from platform.price_state`.execute(tx);
      });
      const prices = await startProcess();
      assert.equal(dollarsOf(prices, target('gpt-4o', 'openai')), '0.000099');
      const shown = await importEntries(prices, { source: 'package', dry_run: true });
      assert.ok(shown.added_count > 1_000);
      assert.equal(shown.changed_count, 1);
      assert.equal(versionOf(prices)?.startsWith('genai-prices-0.0.1+'), true);
      const applied = await importEntries(prices, { source: 'package' });
      assert.equal(applied.price_version, versionOf(prices));
      assert.equal(dollarsOf(prices, target('gpt-4o', 'openai')), '0.0000025');
      const repeated = await importEntries(prices, { source: 'package' });
      assert.equal(repeated.price_version, applied.price_version);
      assert.deepEqual([repeated.added_count, repeated.changed_count, repeated.removed_count], [0, 0, 0]);
    },
  );

  test(named('a kept book whose text was changed is refused, and the prices known go on'), async () => {
    const prices = await startProcess(20);
    const before = versionOf(prices);
    await database.db.withSystem('prices', async (tx) => {
      await sql`insert into platform.price_books (name, content, content_hash)
        values ('genai-prices-0.0.2', '{"name":"genai-prices-0.0.2","providers":[]}', 'not its hash')`.execute(
        tx,
      );
      await sql`update platform.price_state set book = 'genai-prices-0.0.2', revision = revision + 1`.execute(
        tx,
      );
    });
    while (prices.health.isHealthy()) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(versionOf(prices), before);
    await database.db.withSystem('prices', async (tx) => {
      await sql`update platform.price_state set book = (
        select book from platform.price_revisions order by revision desc limit 1)`.execute(tx);
    });
    while (!prices.health.isHealthy()) await new Promise((resolve) => setImmediate(resolve));
  });

  test(named('the list pages through everything once, and finds by model, provider and source'), async () => {
    const prices = await startProcess();
    await call(prices.routes, 'prices.override', { body: { target: 'zeta', rates: { input: '1' } } });
    const list = async (query: Record<string, unknown>) =>
      pageShape.parse((await call(prices.routes, 'prices.list', { query })).body);
    const everyId = async (query: Record<string, unknown>): Promise<string[]> => {
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = await list({ limit: 100, ...query, ...(after === undefined ? {} : { after }) });
        assert.deepEqual([page.first_id, page.last_id], [page.data[0]?.id, page.data.at(-1)?.id]);
        seen.push(...page.data.map((one) => one.id));
        after = page.has_more ? (page.last_id ?? undefined) : undefined;
      } while (after !== undefined);
      assert.equal(new Set(seen).size, seen.length);
      return seen;
    };
    const [whole, ofOne] = [await everyId({}), await everyId({ provider: 'openai' })];
    assert.ok(ofOne.length > 50 && whole.length > ofOne.length);
    assert.deepEqual(await everyId({ limit: 7, provider: 'openai' }), ofOne);
    assert.ok(
      (await list({ limit: 100, provider: 'openai' })).data.every((one) => one.provider === 'openai'),
    );
    const stated = await list({ source: 'override', model: 'ZETA' });
    assert.deepEqual(
      stated.data.map((one) => one.target),
      ['zeta'],
    );
    const everything = await list({ limit: 1 });
    assert.equal(everything.data[0]?.source, 'override');
    await assert.rejects(list({ after: 'price_none' }), refuses('invalid_request'));
  });

  test(named('a price is listed once, as it is now, with what is stated for later'), async () => {
    const prices = await startProcess();
    const state = (input: string, inMs?: number) => {
      const later = inMs === undefined ? {} : { valid_from: new Date(clock.now() + inMs).toISOString() };
      const body = { target: 'planned', rates: { input }, ...later };
      return call(prices.routes, 'prices.override', { body });
    };
    const listed = async () => {
      const query = { source: 'override', model: 'planned', limit: 1 };
      const page = pageShape.parse((await call(prices.routes, 'prices.list', { query })).body);
      assert.equal(page.has_more, false);
      const told = page.data.map(({ id, rates, later }) => ({
        id,
        inputs: [rates, ...later.map((one) => one.rates)].map(({ input }) => input),
      }));
      return told[0] ?? null;
    };
    await state('4', 60_000);
    const first = await listed();
    assert.deepEqual(first?.inputs, ['4']);
    await state('1');
    await state('3', 120_000);
    await state('2', 60_000);
    await state('3', 120_000);
    assert.deepEqual(await listed(), { id: first.id, inputs: ['1', '2', '3'] });
    clock.advance(60_000);
    assert.deepEqual(await listed(), { id: first.id, inputs: ['2', '3'] });
    await call(prices.routes, 'prices.remove_override', { params: { id: first.id } });
    assert.equal(await listed(), null);
  });
}

test('with the database away at the start, the installed price data applies, and the health says so', async () => {
  const database = await openTestDatabase();
  await database.close();
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_fields, message) => void warnings.push(message) };
  const prices = createPrices(
    { db: database.db, clock: manualClock(Date.now()), logger },
    { pollEveryMs: 3_600_000 },
  );
  await prices.lifecycle.start();
  assert.equal(prices.api.isPriced(target('gpt-4o', 'openai')), true);
  assert.equal(prices.health.isHealthy(), false);
  assert.equal(warnings.length, 1);
  await prices.lifecycle.stop();
});
