/**
 * Every operation of the OpenAPI document of the running server, on both listeners, called by everybody who might: who is
 * let in follows from the one table of permissions, and an operation without a row in `rows.ts` fails. What another tenant
 * has is answered like what nobody has, with the same body and in the same time.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { commonErrors, type Endpoint } from '@stoa/contracts';
import { z } from 'zod';
import { everyEndpoint, pathOf } from '../bad-input/endpoints.ts';
import { assertError, errorCodeOf } from '../bad-input/error-answer.ts';
import { type Answer, send } from '../journeys/stoa-process.ts';
import { type Caller, callersOf, strangers } from './callers.ts';
import { type Given, type Row, rows } from './rows.ts';
import { openStage, type Party, type Stage } from './stage.ts';

/** Samples of each kind; medians of fewer swing with what else the machine does. */
const timedPairs = 15;
/** An order of magnitude: what a look into another tenant's rows would cost is less, so smaller ones prove nothing. */
const slowestTimes = 10;
const noiseMs = 20;

let stage: Stage;

before(async () => {
  stage = await openStage();
});

after(async () => {
  await stage?.close();
});

const documented = z.object({
  paths: z.record(
    z.string(),
    z.record(
      z.string(),
      z.looseObject({
        operationId: z.string(),
        'x-stoa-listener': z.string(),
        'x-stoa-permission': z.string().optional(),
      }),
    ),
  ),
});

test('every operation of the document that the server shows has a row here, which names the same permission', async () => {
  const { json } = await stage.stoa.call('GET', '/openapi.json');
  const operations = Object.values(documented.parse(json).paths).flatMap((path) => Object.values(path));
  const shown = operations.map((told) => [told.operationId, told['x-stoa-permission'] ?? 'anyone']);
  const entered = Object.entries(rows).map(([id, { needs }]) => [id, needs]);
  assert.deepEqual(
    Object.fromEntries(entered),
    Object.fromEntries(shown),
    'enter it in test/permissions/rows.ts',
  );
  const ids = operations.map(({ operationId }) => operationId);
  assert.deepEqual(ids.sort(), everyEndpoint.map(({ id }) => id).sort());
});

function rowOf({ id }: Endpoint): Row {
  const row = rows[id];
  assert.ok(row, `${id} has no row in test/permissions/rows.ts`);
  return row;
}

/** What the endpoint's example says, the tenant being this one. */
function exampleOf(endpoint: Endpoint, of: Party): Given {
  const { params = {}, body } = endpoint.example;
  const isOfTenant = endpoint.path.startsWith('/control/v1/tenants/{id}');
  return { params: isOfTenant ? { ...params, id: of.tenantId } : params, body };
}

async function givenOf(endpoint: Endpoint, of: Party): Promise<Given> {
  const example = exampleOf(endpoint, of);
  return { ...example, ...(await rowOf(endpoint).given?.(stage, of)) };
}

/** As the row says, else the first success that is documented. */
function answeredWith(endpoint: Endpoint): number {
  const [first] = Object.keys(endpoint.responses)
    .map(Number)
    .sort((a, b) => a - b);
  const status = rowOf(endpoint).answers ?? first;
  assert.ok(status !== undefined, `${endpoint.id}: say in its row what it answers`);
  return status;
}

async function call(
  endpoint: Endpoint,
  { params, body }: Given,
  authorization: string | undefined,
): Promise<Answer> {
  const { baseUrl, adminUrl } = stage.stoa.credentials;
  const search = new URLSearchParams(endpoint.example.query).toString();
  const path = `${pathOf(endpoint, params)}${search === '' ? '' : `?${search}`}`;
  return send(endpoint.method, `${endpoint.listener === 'admin' ? adminUrl : baseUrl}${path}`, {
    ...(authorization === undefined ? {} : { authorization }),
    ...(endpoint.body === undefined || body === undefined ? {} : { body }),
  });
}

/** Ids of the same form that nobody has. */
function nobodys(params: Readonly<Record<string, string>>): Record<string, string> {
  const missing: Record<string, string> = {};
  for (const [name, id] of Object.entries(params)) {
    const prefix = /^([a-z]+)_[0-9a-z]{26}$/.exec(id)?.[1];
    missing[name] = prefix === undefined ? '00zzzzzzzzzz' : `${prefix}_01jz4x5t2sfkb8m6q0v9c3d7ea`;
  }
  return missing;
}

/** The answer without the ids that were asked for, and without what differs in every answer. */
function shapeOf({ status, headers, text }: Answer, params: Readonly<Record<string, string>>) {
  const body = Object.values(params).reduce((rest, id) => rest.replaceAll(id, '{id}'), text);
  return { status, body, headers: Object.keys(headers).sort() };
}

function namesRows(endpoint: Endpoint): boolean {
  return endpoint.path.includes('{') && rowOf(endpoint).isShared !== true;
}

async function assertAnswered(endpoint: Endpoint, caller: Caller): Promise<void> {
  const of = caller.isOfOther ? stage.other : stage.own;
  const answer = await call(endpoint, await givenOf(endpoint, of), caller.authorization);
  const what = `${endpoint.id} by ${caller.name}: ${answer.status} ${answer.text.slice(0, 300)}`;
  assert.equal(answer.status, answeredWith(endpoint), what);
  if (answer.status >= 400) {
    errorCodeOf(answer, what);
    return;
  }
  const schema = endpoint.responses[answer.status]?.schema;
  if (schema && answer.json !== null) schema.parse(answer.json);
}

/** What `of` has is not there for the caller, and no byte tells it from what nobody has. */
async function assertNotItsOwn(endpoint: Endpoint, caller: Caller): Promise<void> {
  if (!namesRows(endpoint)) {
    await assertAnswered(endpoint, caller);
    return;
  }
  const given = await givenOf(endpoint, stage.own);
  const params = given.params ?? {};
  const missing = nobodys(params);
  const strange = await call(endpoint, given, caller.authorization);
  const absent = await call(endpoint, { ...given, params: missing }, caller.authorization);
  assertError(strange, 'not_found', undefined, `${endpoint.id} by ${caller.name}`);
  assert.deepEqual(shapeOf(strange, params), shapeOf(absent, missing), `${endpoint.id} by ${caller.name}`);
}

async function assertCaller(endpoint: Endpoint, caller: Caller): Promise<void> {
  if (caller.expected === 'answered') return assertAnswered(endpoint, caller);
  if (caller.expected === 'not its own') return assertNotItsOwn(endpoint, caller);
  const given = caller.isRefusedGrant ? await givenOf(endpoint, stage.own) : exampleOf(endpoint, stage.own);
  const answer = await call(endpoint, given, caller.authorization);
  assertError(answer, caller.expected, undefined, `${endpoint.id} by ${caller.name}`);
  assert.ok(commonErrors.includes(caller.expected), caller.expected);
  return undefined;
}

for (const endpoint of everyEndpoint) {
  test(`${endpoint.id}: lets in whom the table of permissions lets in, and nobody else`, async () => {
    const callers = callersOf(stage, endpoint, rowOf(endpoint));
    assert.ok(callers.length >= 13, `${callers.length} callers`);
    for (const caller of callers) await assertCaller(endpoint, caller);
  });
}

function median(samples: readonly number[]): number {
  return samples.toSorted((a, b) => a - b)[Math.floor(samples.length / 2)] ?? 0;
}

async function millisecondsOf(work: () => Promise<Answer>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

test("what another tenant has takes no other time than what nobody has, within the machine's noise", async (context) => {
  const asked = everyEndpoint.filter(
    (endpoint) => endpoint.listener === 'public' && endpoint.method === 'GET' && namesRows(endpoint),
  );
  assert.ok(asked.length >= 3);
  const authorization = `Bearer ${stage.other.key}`;
  for (const endpoint of asked) {
    const given = await givenOf(endpoint, stage.own);
    const missing = { ...given, params: nobodys(given.params ?? {}) };
    const strangeMs: number[] = [];
    const absentMs: number[] = [];
    for (let pair = 0; pair < timedPairs; pair += 1) {
      strangeMs.push(await millisecondsOf(() => call(endpoint, given, authorization)));
      absentMs.push(await millisecondsOf(() => call(endpoint, missing, authorization)));
    }
    const [strange, absent] = [median(strangeMs), median(absentMs)];
    context.diagnostic(
      `${endpoint.id}: ${strange.toFixed(2)} ms of another, ${absent.toFixed(2)} ms of nobody`,
    );
    const [less, more] = [Math.min(strange, absent), Math.max(strange, absent)];
    assert.ok(more <= Math.max(less * slowestTimes, noiseMs), `${endpoint.id}: ${less} and ${more} ms`);
  }
});

test('a 401 is the same for every stranger, a tautology among them, and names no table, statement or reason', async () => {
  for (const endpoint of everyEndpoint.filter(({ access }) => access !== 'anyone')) {
    const answers = await Promise.all(
      strangers.map(async ([name, authorization]) => {
        const answer = await call(endpoint, exampleOf(endpoint, stage.own), authorization);
        assertError(answer, 'invalid_api_key', undefined, `${endpoint.id} by ${name}`);
        assert.doesNotMatch(answer.text, /api_keys|operator_keys|tenant\.|platform\.|select|token/i, name);
        return answer.text;
      }),
    );
    assert.equal(new Set(answers).size, 1, `${endpoint.id}: the answer tells strangers apart`);
  }
});

test('an endpoint that the server could serve is declared in contracts, where the document and this gate find it', () => {
  const root = join(import.meta.dirname, '..', '..');
  const declared = (pattern: string): string[] =>
    globSync(pattern, { cwd: root })
      .filter((file) => !/[.-](?:test|harness)\.ts$|\/testing\//.test(file))
      .flatMap((file) =>
        [...readFileSync(join(root, file), 'utf8').matchAll(/= endpoint\(\{\s+id: '([^']+)'/g)].map(
          ([, id = '']) => id,
        ),
      );
  assert.deepEqual(declared('server/src/**/*.ts'), []);
  assert.deepEqual(declared('contracts/src/**/*.ts').sort(), everyEndpoint.map(({ id }) => id).sort());
});
