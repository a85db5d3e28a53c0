/**
 * Every operation of the contracts, on its listener, with credentials, paths, queries, headers and bodies that nobody
 * meant: the answer is a documented one, an error has the one shape, and nothing of the insides shows. The seed is printed;
 * STOA_TEST_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import { commonErrors, type Endpoint, type ErrorCode } from '@stoa/contracts';
import fc from 'fast-check';
import { z } from 'zod';
import { send, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { everyEndpoint, pathOf } from './endpoints.ts';
import { errorCodeOf } from './error-answer.ts';

const seed = Number(process.env['STOA_TEST_SEED'] ?? randomInt(2 ** 31));
const runsPerEndpoint = 25;
const longestMs = 5_000;
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
];
const operations = everyEndpoint.filter(({ id }) => id !== 'metrics.read');
let upstream: EchoUpstream;
let stoa: StoaProcess;
let credentials: readonly (string | undefined)[];
let knownIds: readonly string[];

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'error' } });
  const admin = await stoa.newTenant('attacker');
  const viewer = await stoa.newTenant('looker-on', 'viewer');
  const victim = await stoa.newTenant('victim');
  const { operatorKey } = stoa.credentials;
  const keys = [admin.apiKey, viewer.apiKey, operatorKey, 'garbage', `${operatorKey}x`];
  credentials = [...keys.map((key) => `Bearer ${key}`), 'Basic eDp5', undefined];
  const ownKey = await stoa.call('POST', '/v1/keys', {
    key: admin.apiKey,
    body: { name: 'k', role: 'viewer' },
  });
  const lists = await Promise.all(
    ['providers', 'models'].map(async (name) => stoa.call('GET', `/control/v1/${name}`)),
  );
  const listed = lists.flatMap(({ json }) => idList.parse(json).data.map(({ id }) => id));
  knownIds = [victim.tenantId, victim.keyId, identified.parse(ownKey.json).id, echoModel, ...listed];
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

const identified = z.looseObject({ id: z.string() });
const idList = z.looseObject({ data: z.array(identified) });

interface Attack {
  readonly credential: number;
  readonly params: readonly string[];
  readonly query: readonly (readonly [string, string])[];
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer | undefined;
}

const record = z.record(z.string(), z.unknown());
const anyText = fc.string({ unit: 'binary', maxLength: 60 });
const someText = fc.oneof(
  anyText,
  fc.constantFrom('', '__proto__', '0', '-1', '1e9', 'null', "' or 1=1 --", '%00', '../..', 'day'),
);
const headerText = fc.oneof(
  fc.string({
    unit: fc
      .integer({ min: 0x20, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code)),
    maxLength: 80,
  }),
  fc.constantFrom('*', '"1"', 'W/"2"', '1', '50', 'abc', 'application/json', 'gzip', 'text/html'),
);
const headerNames = [
  'if-match',
  'idempotency-key',
  'x-request-id',
  'traceparent',
  'tracestate',
  'x-stoa-timeout-ms',
  'accept',
  'accept-encoding',
  'content-type',
  'content-encoding',
  'x-forwarded-for',
  'range',
  'cookie',
  'origin',
  'x-http-method-override',
];
const queryNames = [
  'limit',
  'after',
  'from',
  'to',
  'group_by',
  'model',
  'state',
  'tenant_id',
  'end_user',
  'outcome',
  'source',
  '__proto__',
  'x',
];

/** The body of the example with some of its members replaced, removed or added. */
function mutatedExample(endpoint: Endpoint): fc.Arbitrary<string> {
  const parsed = record.safeParse(endpoint.example.body);
  const example = parsed.success ? parsed.data : {};
  const name = fc.oneof(
    fc.constantFrom(...Object.keys(example), 'name', 'metadata', 'tags', 'order'),
    anyText,
  );
  const changes = fc.array(
    fc.tuple(name, fc.oneof(fc.jsonValue({ maxDepth: 3 }), someText, fc.constant(undefined))),
    { maxLength: 3 },
  );
  return changes.map((list) => JSON.stringify({ ...example, ...Object.fromEntries(list) }));
}

function attackOn(endpoint: Endpoint): fc.Arbitrary<Attack> {
  const body = fc.oneof(
    { weight: 4, arbitrary: mutatedExample(endpoint) },
    { weight: 2, arbitrary: fc.json({ maxDepth: 4 }) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
  return fc.record({
    credential: fc.nat(),
    params: fc.array(someText, { minLength: 3, maxLength: 3 }),
    query: fc.array(fc.tuple(fc.constantFrom(...queryNames), someText), { maxLength: 3 }),
    headers: fc.dictionary(fc.constantFrom(...headerNames), headerText, { maxKeys: 3 }),
    body,
  });
}

/** Every fourth request has the ids of the example, every fourth random ones, the others name something that is there. */
function urlOf(endpoint: Endpoint, { params, query, credential }: Attack): string {
  const values: Record<string, string> = {};
  for (const [at, name] of ['id', 'key_id'].entries()) {
    const random = encodeURIComponent((params[at] ?? '').toWellFormed()).replaceAll('.', '%2E');
    const known = knownIds[(credential + at) % knownIds.length] ?? 'x';
    if (credential % 4 < 2) values[name] = known;
    else if (credential % 4 === 2) values[name] = random === '' ? 'x' : random;
  }
  const { baseUrl, adminUrl } = stoa.credentials;
  const search = query
    .map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`)
    .join('&');
  const listener = endpoint.listener === 'admin' ? adminUrl : baseUrl;
  return `${listener}${pathOf(endpoint, values)}${search === '' ? '' : `?${search}`}`;
}

/** Mostly the one that the operation wants, so that what lies behind the door is met, too. */
function credentialFor(endpoint: Endpoint, { credential }: Attack): string | undefined {
  const fitting = endpoint.listener === 'admin' ? `Bearer ${stoa.credentials.operatorKey}` : credentials[0];
  return credential % 3 === 0 ? credentials[(credential / 3) % credentials.length] : fitting;
}

async function strike(endpoint: Endpoint, attack: Attack): Promise<void> {
  const authorization = credentialFor(endpoint, attack);
  const isBodyless = endpoint.method === 'GET' || attack.body === undefined;
  const startedAt = performance.now();
  const answer = await send(endpoint.method, urlOf(endpoint, attack), {
    ...(authorization === undefined ? {} : { authorization }),
    ...(isBodyless ? {} : { body: attack.body }),
    headers: attack.headers,
  });
  const what = `${endpoint.id} ${JSON.stringify(attack)}`;
  assert.ok(performance.now() - startedAt < longestMs, `took too long: ${what}`);
  assert.match(String(answer.headers['x-request-id']), /^req_[0-7]/, what);
  if (answer.status < 400) {
    assert.ok(
      Object.hasOwn(endpoint.responses, answer.status),
      `${answer.status} is not documented: ${what}`,
    );
    return;
  }
  const code = errorCodeOf(answer, what);
  assert.notEqual(code, 'internal_error', what);
  const documented = [...endpoint.errors, ...commonErrors, ...edgeErrors];
  assert.ok(documented.includes(code), `${code} is not documented: ${what}: ${answer.text}`);
}

for (const endpoint of operations) {
  test(`${endpoint.id}: whatever is sent, the answer is a documented one`, async () => {
    const property = fc.asyncProperty(attackOn(endpoint), async (attack) => strike(endpoint, attack));
    await fc.assert(property, { seed, numRuns: runsPerEndpoint, endOnFailure: true });
  });
}

test('after all that, the process serves as before', async () => {
  process.stdout.write(`told: bad-input fuzz seed ${seed}\n`);
  const body = { model: echoModel, messages: [{ role: 'user', content: 'hi' }] };
  const { apiKey } = await stoa.newTenant('afterwards');
  assert.equal((await stoa.call('POST', '/v1/chat/completions', { body, key: apiKey })).status, 200);
});
