/**
 * Every operation that changes something, called once by somebody who may: each success leaves an entry in the audit, with
 * the operation's name, the request, the resource, and what it was before or is now; and no secret that the answer told.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type AuditEntryObject, auditEntry, type Endpoint, listOf } from '@stoa/contracts';
import { everyEndpoint, pathOf } from '../bad-input/endpoints.ts';
import { headerOf } from '../journeys/answer-shapes.ts';
import { type Answer, send } from '../journeys/stoa-process.ts';
import { type Given, rows } from './rows.ts';
import { idIn, openStage, type Stage } from './stage.ts';

/** Operations other than GET whose success leaves no entry, and why. A new one needs a reason that holds. */
const exceptions: Readonly<Record<string, string>> = {
  'chat.completions.create': 'Work, not a change: each has its explanation and its usage record.',
  'responses.create': 'Answers 404: there is none yet.',
  'embeddings.create': 'Work, not a change: each has its usage record.',
  'tokens.create': 'Stores nothing; what a token does is told under its id and its key.',
  'event-replays.create': 'Needs a consumer that can be replayed; its own test asks for the entry.',
};

/** Where the gate's own call is refused or changes nothing. */
const givens: Readonly<Record<string, (stage: Stage) => Promise<Given>>> = {
  'prices.remove_override': async ({ operator, fresh }) => {
    const body = { target: fresh(), rates: { input: '0.000001', output: '0.000002' } };
    return { params: { id: idIn(await operator.call('PUT', '/control/v1/prices/overrides', body)) } };
  },
};

/** Successes that change nothing, and so leave the entry of their passage only. */
const dryRuns: readonly string[] = ['prices.import', 'dead-letters.redrive', 'dead-letters.discard'];

/** Acts upon a resource that stays as it was. */
const acts: readonly string[] = ['webhooks.test', 'webhooks.deliveries.redeliver'];

let stage: Stage;

before(async () => {
  stage = await openStage();
});

after(async () => {
  await stage?.close();
});

const changing = everyEndpoint.filter(({ method }) => method !== 'GET');

async function givenOf(endpoint: Endpoint): Promise<Given> {
  const { params = {}, body } = endpoint.example;
  const isOfTenant = endpoint.path.startsWith('/control/v1/tenants/{id}');
  const example = { params: isOfTenant ? { ...params, id: stage.own.tenantId } : params, body };
  const given = givens[endpoint.id]?.(stage) ?? rows[endpoint.id]?.given?.(stage, stage.own);
  return { ...example, ...(await given) };
}

async function callOf(endpoint: Endpoint): Promise<Answer> {
  const { params, body } = await givenOf(endpoint);
  const { baseUrl, adminUrl, operatorKey } = stage.stoa.credentials;
  const isAdmin = endpoint.listener === 'admin';
  const query = new URLSearchParams(endpoint.example.query).toString();
  const path = `${pathOf(endpoint, params)}${query === '' ? '' : `?${query}`}`;
  return send(endpoint.method, `${isAdmin ? adminUrl : baseUrl}${path}`, {
    authorization: `Bearer ${isAdmin ? operatorKey : stage.own.key}`,
    ...(endpoint.body === undefined || body === undefined ? {} : { body }),
  });
}

async function entriesOf(requestId: string): Promise<AuditEntryObject[]> {
  const { json } = await stage.operator.call('GET', '/control/v1/audit?limit=50');
  return listOf(auditEntry)
    .parse(json)
    .data.filter((entry) => entry.request_id === requestId);
}

/** Texts under the names that answers tell secrets by. */
function secretsIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) =>
    typeof member === 'string' && /^(key|token|secret|credential)$/.test(name) ? [member] : secretsIn(member),
  );
}

for (const endpoint of changing.filter(({ id }) => exceptions[id] === undefined)) {
  test(`${endpoint.id}: a success leaves an entry in the audit`, async () => {
    const answer = await callOf(endpoint);
    assert.ok(answer.status < 300, `${endpoint.id}: ${answer.status} ${answer.text}`);
    const entries = await entriesOf(headerOf(answer, 'x-request-id'));
    const shown = JSON.stringify(entries, null, 1);
    const entry = entries.find(({ action }) => action === endpoint.id);
    assert.ok(entry, `${endpoint.id} left no entry of its name: ${shown}`);
    assert.match(entry.client_address ?? '', /127\.0\.0\.1$/, shown);
    assert.notEqual(entry.actor.role, null, shown);
    if (endpoint.listener === 'public') assert.equal(entry.actor.id, stage.own.keyId, shown);
    if (!dryRuns.includes(endpoint.id)) {
      assert.ok(entry.resource, shown);
      assert.ok(acts.includes(endpoint.id) || entry.before !== null || entry.after !== null, shown);
    }
    for (const secret of secretsIn(answer.json))
      assert.ok(!shown.includes(secret), 'a secret is in the audit');
  });
}

test('each exception is an operation, and one that the audit could be asked of', () => {
  const ids = changing.map(({ id }) => id);
  assert.deepEqual(
    [...Object.keys(exceptions), ...dryRuns, ...acts, ...Object.keys(givens)].filter(
      (id) => !ids.includes(id),
    ),
    [],
  );
});
