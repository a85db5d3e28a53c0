import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  buildCatalog,
  type CatalogInput,
  defaultDeadlines,
  looksLikeEmbedder,
  type UsableProvider,
} from './catalog.ts';
import { derivedUuid, engineTarget } from './connections.ts';
import type { ModelRow } from './rows.ts';

function provider(
  name: string,
  source: UsableProvider['source'],
  discover = true,
  baseUrl = 'http://h/v1',
): UsableProvider {
  return {
    uuid: derivedUuid(name),
    source,
    discover,
    connection: {
      id: name,
      kind: 'openai-compatible',
      baseUrl,
      credential: null,
      headers: {},
      credentialId: name,
      maxConcurrency: 1,
    },
  };
}

function model(
  target: string,
  of: UsableProvider,
  source: ModelRow['source'],
  changes: Partial<ModelRow> = {},
): ModelRow {
  return {
    model_id: derivedUuid(`${source} ${target}`),
    source,
    target,
    provider_id: of.uuid,
    provider_model: `${target}-name`,
    kind: 'chat',
    context_tokens: null,
    max_output_tokens: null,
    whole_ms: null,
    first_frame_ms: null,
    between_frames_ms: null,
    price_provider: null,
    price_model: null,
    is_enabled: true,
    version: 1n,
    created_at: new Date(1_700_000_000_000),
    changed_at: new Date(),
    ...changes,
  };
}

const settings = provider('default', 'settings');
const file = provider('file', 'file');
const api = provider('api', 'api');
const extractive = engineTarget('extractive', { id: 'extractive', kind: 'chat' }, defaultDeadlines);
const scriptedTarget = engineTarget('scripted', { id: 'scripted', kind: 'chat' }, defaultDeadlines);

function build(input: Partial<CatalogInput>, lists: Readonly<Record<string, readonly string[]>> = {}) {
  const byUuid = new Map(Object.entries(lists).map(([name, ids]) => [derivedUuid(name), ids]));
  return buildCatalog({
    providers: [settings, file, api],
    models: [],
    listingOf: (uuid) => (byUuid.get(uuid) ?? []).map((id) => ({ id, createdAt: 5, ownedBy: 'them' })),
    builtIn: [extractive],
    defaultOrder: [],
    ...input,
  });
}

const order = (catalog: ReturnType<typeof build>): string[] => catalog.chatOrder.map((target) => target.id);

test('for one name the file wins over the API, the API over a list, and a list over what is built in', () => {
  const lists = { default: ['a', 'b', 'c', 'extractive'] };
  const catalog = build(
    { models: [model('a', api, 'api'), model('b', api, 'api'), model('a', file, 'file')] },
    lists,
  );
  const sources = [...catalog.entries].map(([id, { target }]) => `${id} ${target.source}`).sort();
  assert.deepEqual(sources, ['a file', 'b api', 'c settings', 'extractive settings']);
  assert.equal(catalog.warnings.length, 4);
  assert.ok(catalog.warnings.some((warning) => warning.includes('target a of the source api')));
});

test('a disabled entry of the API hides a listed model, one of an older file does not', () => {
  const disabled = { is_enabled: false };
  const models = [model('a', api, 'api', disabled), model('b', file, 'file', disabled)];
  const catalog = build({ models }, { default: ['a', 'b'] });
  assert.deepEqual([...catalog.entries.keys()].sort(), ['b', 'extractive']);
});

test('an entry whose provider is out of use is no target, and hides nothing', () => {
  const catalog = build({ providers: [settings], models: [model('a', api, 'api')] }, { default: ['a'] });
  assert.equal(catalog.entries.get('a')?.target.source, 'settings');
});

test('a provider that is not to be discovered brings no targets by its list', () => {
  const catalog = build({ providers: [provider('default', 'settings', false)] }, { default: ['a'] });
  assert.deepEqual([...catalog.entries.keys()], ['extractive']);
});

test('listed names that cannot be targets are left out, all others are kept exactly', () => {
  const listed = [
    'meta-llama/Llama 3.1:8b',
    'auto',
    '',
    ' a',
    'ключ',
    'x'.repeat(201),
    'a\r\nb',
    '__proto__',
  ];
  const catalog = build({}, { default: listed });
  assert.deepEqual([...catalog.entries.keys()], ['meta-llama/Llama 3.1:8b', '__proto__', 'extractive']);
});

test('`auto` prefers configured models, then lists in their order, then other purposes', () => {
  const lists = { default: ['whisper-1', 'gpt-b', 'text-embedding-3-small', 'gpt-a'], api: ['from-api'] };
  const catalog = build(
    { models: [model('mine', api, 'api')], builtIn: [extractive, scriptedTarget] },
    lists,
  );
  assert.deepEqual(order(catalog), ['mine', 'gpt-b', 'gpt-a', 'from-api', 'whisper-1', 'scripted']);
});

test('`auto` quotes only where there is no other chat target, or where an order says so', () => {
  assert.deepEqual(order(build({ builtIn: [extractive] }, { default: ['text-embedding-3-small'] })), [
    'extractive',
  ]);
  assert.deepEqual(order(build({ builtIn: [extractive] }, { default: ['gpt-a'] })), ['gpt-a']);
  const lists = { default: ['gpt-a'] };
  assert.deepEqual(order(build({ builtIn: [extractive], defaultOrder: ['gpt-a', 'extractive'] }, lists)), [
    'gpt-a',
    'extractive',
  ]);
});

test('an order that is set is complete; names that are gone and embedding models drop out', () => {
  const lists = { default: ['a', 'b', 'text-embedding-3-small'] };
  const catalog = build({ defaultOrder: ['b', 'gone', 'text-embedding-3-small', 'extractive'] }, lists);
  assert.deepEqual(order(catalog), ['b', 'extractive']);
});

test('embedding models are known by the names of their families, and rerankers are none', () => {
  for (const id of [
    'text-embedding-3-small',
    'nomic-embed-text',
    'BAAI/bge-m3',
    'intfloat/e5-large',
    'gte-small',
    'all-MiniLM-L6-v2',
    'mxbai-embed-large',
  ]) {
    assert.ok(looksLikeEmbedder(id), id);
  }
  for (const id of [
    'gpt-4o',
    'bge-reranker-large',
    'claude5-mini',
    'llama3',
    'integte-x',
    'jina-re-rank-embed',
  ]) {
    assert.ok(!looksLikeEmbedder(id), id);
  }
});

test('a target carries what its entry says, and defaults where it says nothing', () => {
  const said = model('a', api, 'api', {
    context_tokens: 100,
    max_output_tokens: 10,
    first_frame_ms: 7,
    price_provider: 'p',
    price_model: 'q',
  });
  const { entries } = build(
    { models: [said, model('b', api, 'api', { kind: 'embedding' })] },
    { default: ['c'] },
  );
  assert.partialDeepStrictEqual(entries.get('a')?.target, {
    model: 'a-name',
    contextTokens: 100,
    maxOutputTokens: 10,
    deadlines: { wholeMs: 600_000, firstFrameMs: 7, betweenFramesMs: 60_000 },
    priceKey: { provider: 'p', model: 'q' },
    createdAt: 1_700_000_000,
    isGenerative: true,
  });
  assert.partialDeepStrictEqual(entries.get('b')?.target, { isGenerative: false, kind: 'embedding' });
  assert.partialDeepStrictEqual(entries.get('c')?.target, {
    createdAt: 5,
    ownedBy: 'them',
    deadlines: defaultDeadlines,
  });
  const openai = build(
    { providers: [provider('default', 'settings', true, 'https://api.openai.com/v1')] },
    { default: ['c'] },
  );
  assert.deepEqual(openai.entries.get('c')?.target.priceKey, { provider: 'openai', model: 'c' });
});
