/**
 * One sequence of calls by two tenants and the operator, on a Stoa that goes on serving others: who called, what was sent,
 * and which ids each has been shown. What a tenant was shown is its own; that it ever turns up with another tenant that
 * did not send it is a breach, and so is a tenant's mark.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { commonErrors, type Endpoint, type ErrorCode } from '@stoa/contracts';
import { z } from 'zod';
import { everyEndpoint, pathOf } from '../bad-input/endpoints.ts';
import { errorCodeOf } from '../bad-input/error-answer.ts';
import { type Answer, send, type StoaProcess } from '../journeys/stoa-process.ts';
import type { Step } from './operations.ts';
import { fillIn } from './values-of-schema.ts';

const slowestMs = 10_000;
/** What is wrong in this fuzz, wherever it is documented: nothing it stands on is away. */
const faults: readonly ErrorCode[] = [
  'internal_error',
  'database_unavailable',
  'deadline_exceeded',
  'overloaded',
  'draining',
];
/** What the edge answers before an operation is asked. */
const edgeErrors: readonly ErrorCode[] = [
  'bad_request',
  'invalid_json',
  'invalid_encoding',
  'invalid_text',
  'invalid_request',
  'json_too_deep',
  'unsupported_media_type',
  'not_found',
  'method_not_allowed',
  'rate_limit_exceeded',
];
/** Ids that are of no tenant: models and providers, prices, what the operator made. */
const sharedKinds: readonly string[] = ['prov', 'mod', 'price', 'job'];
const idText = /\b([a-z]+)_[0-7][0-9a-hjkmnp-tv-z]{25}\b/g;
const keyText = /"(?:id|key_id)":"(00[0-9A-Za-z]{10})"/g;
const credentialText = /"(?:key|token)":"(stoa_sk_[0-9A-Za-z_]{49,}|ey[\w-]+\.[\w-]+\.[\w-]+)"/g;
const anyId = /\b(?:[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}|00[0-9A-Za-z]{10})\b/g;
/** Of tenants: what the operator made for one carries the operator's. */
const anyMark = /\bmark-[ab]-[0-9a-f]{12}\b/g;
const stack = /\n\s+at .+:\d+|node_modules\/|server\/src\//;

/** What every tenant has from the beginning, so that ids can be met from the first call on. */
const furniture: readonly (readonly [string, object])[] = [
  ['keys.create', { name: '{{mark}}', role: 'admin', project_id: '{{mark}}', tags: { tag: '{{mark}}' } }],
  ['members.create', { name: '{{mark}}', role: 'viewer' }],
  [
    'chat.completions.create',
    { model: 'echo', user: '{{mark}}', messages: [{ role: 'user', content: '{{mark}}' }] },
  ],
  ['webhooks.create', { url: 'https://203.0.114.7/stoa', event_types: ['*'], description: '{{mark}}' }],
];

interface Caller {
  readonly name: string;
  readonly mark: string;
  readonly isOperator: boolean;
  readonly credentials: string[];
  /** Ids that it was shown first, by kind. */
  readonly own: Map<string, string[]>;
  /** Everything that it ever sent, or was made of: no secret to it. */
  readonly known: Set<string>;
}

function newCaller(name: string, credential: string, isOperator: boolean, known: readonly string[]): Caller {
  const mark = `mark-${name}-${randomBytes(6).toString('hex')}`;
  return { name, mark, isOperator, credentials: [credential], own: new Map(), known: new Set(known) };
}

export interface Session {
  /** Makes the call and holds its answer to everything that holds for every answer. */
  take(step: Step): Promise<void>;
}

/** What lasts from one sequence to the next. */
export interface World {
  readonly stoa: StoaProcess;
  /** Who was shown an id first. */
  readonly owners: Map<string, Caller>;
  /** How many calls were answered with success, by operation. */
  readonly successes: Map<string, number>;
}

/** Ids that are remembered over all sequences; older ones are forgotten. */
const rememberedIds = 50_000;

export async function openSession(world: World): Promise<Session> {
  const { stoa, owners, successes } = world;
  const [a, b] = await Promise.all([stoa.newTenant('fuzz a'), stoa.newTenant('fuzz b')]);
  const tenants = [
    newCaller('a', a.apiKey, false, [a.tenantId, a.keyId]),
    newCaller('b', b.apiKey, false, [b.tenantId, b.keyId]),
  ];
  const operator = newCaller('operator', stoa.credentials.operatorKey, true, []);
  const tenantIds = [a.tenantId, b.tenantId];
  /** Whose keys these are; nobody may be handed them, or the sequence ends for its caller. */
  const kept = new Set([a.keyId, b.keyId, stoa.credentials.operatorKey.split('_')[2] ?? '']);
  const callers: readonly Caller[] = [...tenants, ...tenants, ...tenants, operator];

  function idFor(caller: Caller, kind: string, number: number): string {
    if (kind === 'ten') return tenantIds[number % tenantIds.length] ?? '';
    const others = [...tenants, operator].filter((one) => one !== caller);
    const from = number % 10 < 6 ? [caller] : number % 10 < 9 ? others : [];
    const kinds = kind === '' ? [...caller.own.keys()] : [kind];
    const pool = from.flatMap((one) => kinds.flatMap((name) => one.own.get(name) ?? []));
    const invented = kind === 'key' || kind === '' ? '00zzzzzzzzzz' : `${kind}_01jz4x5t2sfkb8m6q0v9c3d7ea`;
    return pool[number % Math.max(1, pool.length)] ?? invented;
  }

  function learn(caller: Caller, text: string): void {
    const ids = [...text.matchAll(idText)].map(([id, kind = '']) => [kind, id] as const);
    const keys = [...text.matchAll(keyText)].map(([, id = '']) => ['key', id] as const);
    for (const [kind, id] of [...ids, ...keys]) {
      if (caller.known.has(id) || kept.has(id) || owners.has(id) || sharedKinds.includes(kind)) continue;
      owners.set(id, caller);
      const [oldest] = owners.size > rememberedIds ? owners.keys() : [];
      if (oldest !== undefined) owners.delete(oldest);
      caller.own.set(kind, [...(caller.own.get(kind) ?? []), id].slice(-20));
    }
    for (const [, credential = ''] of text.matchAll(credentialText)) {
      if (!caller.isOperator && caller.credentials.length < 6) caller.credentials.push(credential);
    }
  }

  /** Nothing of another tenant's is in an answer, of this sequence's or an earlier one's, but what its reader sent itself. */
  function assertNothingOfOthers(caller: Caller, answer: Answer, what: string): void {
    if (caller.isOperator) return;
    for (const [id] of answer.text.matchAll(anyId)) {
      const owner = world.owners.get(id);
      if (owner === undefined || owner === caller || owner.isOperator || caller.known.has(id)) continue;
      assert.fail(`${what} shows ${id} of ${owner.name}`);
    }
    for (const [mark] of answer.text.matchAll(anyMark))
      assert.ok(mark === caller.mark || caller.known.has(mark), `${what} shows the mark ${mark} of another`);
  }

  async function take(step: Step): Promise<void> {
    const endpoint = everyEndpoint.find(({ id }) => id === step.operation);
    assert.ok(endpoint, step.operation);
    const caller = callers[step.caller % callers.length] ?? operator;
    const fits = caller.isOperator === (endpoint.listener === 'admin');
    // Mostly by whom the operation is for; now and then by another, who must be refused.
    const by =
      fits || step.credential % 10 === 0
        ? caller
        : endpoint.listener === 'admin'
          ? operator
          : tenants[step.caller % 2];
    assert.ok(by);
    const fill = (text: string): string => fillIn(text, by.mark, (kind, number) => idFor(by, kind, number));
    const request = {
      params: mapValues(step.params, fill),
      query: mapValues(step.query, fill),
      body: step.body === undefined ? undefined : fill(step.body),
    };
    const sent = JSON.stringify(request);
    // What the operator writes for a tenant, that tenant may see, though it be the text of another's id.
    const writtenFor = tenants.filter((_, index) =>
      Object.values(request.params).includes(tenantIds[index] ?? ''),
    );
    for (const one of by.isOperator ? [by, ...writtenFor] : [by])
      for (const [id] of sent.matchAll(anyId)) if (owners.get(id) !== one) one.known.add(id);
    const what = `${by.name}: ${endpoint.method} ${endpoint.id} ${sent.slice(0, 1_500)}`;
    const credential = by.credentials[step.credential % by.credentials.length] ?? '';
    const startedMs = performance.now();
    const answer = await call(stoa, endpoint, request, credential, step.headers);
    assert.ok(performance.now() - startedMs < slowestMs, `took too long: ${what}`);
    assertAnswer(endpoint, answer, what);
    assertNothingOfOthers(by, answer, what);
    const asked = Object.values(request.params).map((id) => owners.get(id));
    const isForeign = asked.some((owner) => owner !== undefined && owner !== by && !owner.isOperator);
    if (isForeign && !by.isOperator)
      assert.ok(answer.status >= 400, `${what} reached another tenant's: ${answer.text}`);
    if (answer.status < 300) {
      successes.set(endpoint.id, (successes.get(endpoint.id) ?? 0) + 1);
      learn(by, answer.text);
      const requestId = answer.headers['x-request-id'];
      if (endpoint.id === 'chat.completions.create') learn(by, `"${String(requestId)}"`);
    }
  }

  for (const [caller] of tenants.entries()) {
    for (const [operation, content] of furniture) {
      const nothing = { params: {}, query: {}, headers: {} };
      await take({ operation, caller, credential: 0, body: JSON.stringify(content), ...nothing });
    }
  }
  return { take };
}

function mapValues(
  values: Readonly<Record<string, string>>,
  change: (value: string) => string,
): Record<string, string> {
  const changed: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) changed[name] = change(value);
  return changed;
}

function encoded(text: string): string {
  const whole = encodeURIComponent(text.toWellFormed()).replaceAll('.', '%2E');
  return whole === '' ? '%20' : whole;
}

async function call(
  stoa: StoaProcess,
  endpoint: Endpoint,
  request: {
    readonly params: Readonly<Record<string, string>>;
    readonly query: Readonly<Record<string, string>>;
    readonly body: string | undefined;
  },
  credential: string,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> {
  const { baseUrl, adminUrl } = stoa.credentials;
  const path = pathOf(endpoint, mapValues(request.params, encoded));
  const query = { ...request.query, ...(endpoint.id === 'events.follow' ? { wait_seconds: '0' } : {}) };
  const search = Object.entries(query)
    .map(([name, value]) => `${name}=${encoded(value)}`)
    .join('&');
  const url = `${endpoint.listener === 'admin' ? adminUrl : baseUrl}${path}${search === '' ? '' : `?${search}`}`;
  return send(endpoint.method, url, {
    authorization: `Bearer ${credential}`,
    headers: { ...headers },
    ...(request.body === undefined || endpoint.method === 'GET' ? {} : { body: request.body }),
  });
}

/** A documented answer in its documented shape, with nothing in it that is not documented. */
function assertAnswer(endpoint: Endpoint, answer: Answer, what: string): void {
  const shown = `${what} -> ${answer.status} ${answer.text.slice(0, 600)}`;
  assert.doesNotMatch(answer.text, stack, shown);
  if (answer.status >= 400) {
    const code = errorCodeOf(answer, what);
    assert.ok(!faults.includes(code), shown);
    assert.ok(
      [...endpoint.errors, ...commonErrors, ...edgeErrors].includes(code),
      `not documented: ${shown}`,
    );
    return;
  }
  assert.ok(Object.hasOwn(endpoint.responses, answer.status), `not documented: ${shown}`);
  const response = endpoint.responses[answer.status];
  const isJson = String(answer.headers['content-type'] ?? '').startsWith('application/json');
  if (!response?.schema || !isJson) return;
  const read = response.schema.safeParse(answer.json);
  assert.ok(read.success, `${shown}: ${read.success ? '' : z.prettifyError(read.error)}`);
  assert.deepEqual(read.data, answer.json, `more than documented: ${shown}`);
}
