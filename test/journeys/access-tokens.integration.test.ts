/**
 * A tenant's front end calls Stoa with an access token for one of the tenant's end users: what it may, whose requests they
 * are, and how a revocation ends them, a running answer included.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { accessToken, jsonWebKeySet } from '@stoa/contracts';
import { z } from 'zod';
import { codeOf, headerOf, listRequests } from './answer-shapes.ts';
import { type Answer, startStoa, type StoaProcess } from './stoa-process.ts';
import { streamChat } from './streamed-answer.ts';

const script = `
models: [{ id: quick }, { id: waiting }]
rules:
  - { when: { model: quick }, reply: Here, tokens: { input: 4, output: 1 } }
  - { when: { model: waiting }, reply: [one, two], tokens: { input: 7, output: 9 }, stall: { after_chunks: 2 } }
`;

let stoa: StoaProcess;
let key: string;
/** Of a front end behind names of its own; on PostgreSQL no process can know it by itself. */
const issuer = 'https://tokens.example.com';

before(async () => {
  stoa = await startStoa({ script, env: { STOA_TOKEN_ISSUER: issuer } });
  key = (await stoa.newTenant('Front end')).apiKey;
});

after(() => stoa.dispose());

async function newToken(body: object): Promise<z.output<typeof accessToken>> {
  const answer = await stoa.call('POST', '/v1/tokens', { key, body });
  assert.equal(answer.status, 201, answer.text);
  return accessToken.parse(answer.json);
}

function chat(token: string, more: object = {}): Promise<Answer> {
  const body = { model: 'quick', messages: [{ role: 'user', content: 'Hello' }], ...more };
  return stoa.call('POST', '/v1/chat/completions', { key: token, body });
}

test("a front end's requests count as its end user's, and can name no other", async () => {
  const { token } = await newToken({ end_user: 'user-42' });
  const ids: string[] = [];
  for (const more of [{}, { user: 'user-42' }]) {
    const answer = await chat(token, more);
    assert.equal(answer.status, 200, answer.text);
    ids.push(headerOf(answer, 'x-request-id'));
  }
  const other = await chat(token, { user: 'user-43' });
  assert.deepEqual([other.status, codeOf(other)], [403, 'permission_denied']);
  const found = await listRequests(stoa, '&end_user=user-42', key);
  assert.deepEqual(found.map(({ id }) => id).sort(), ids.sort());
  assert.equal((await listRequests(stoa, '&end_user=user-43', key)).length, 0);
});

test('issuer and audience are those of the setting, and the key set stands beside it without a credential', async () => {
  const { token } = await newToken({});
  const claims = z
    .object({ iss: z.string(), aud: z.string() })
    .parse(JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()));
  assert.deepEqual(claims, { iss: issuer, aud: issuer });
  const answer = await stoa.call('GET', '/.well-known/jwks.json', { key: '' });
  assert.equal(jsonWebKeySet.parse(answer.json).keys.length, 2);
});

test('a revocation ends a running answer in band within a second', async () => {
  const { id, token } = await newToken({ end_user: 'user-44' });
  const body = { model: 'waiting' };
  const stream = await streamChat(stoa.credentials.baseUrl, token, body);
  await stream.until('one');
  const startedMs = performance.now();
  const revoked = await stoa.call('POST', '/v1/tokens/revoke', { key, body: { token_id: id } });
  assert.equal(revoked.status, 200, revoked.text);
  const text = await stream.whole();
  assert.ok(performance.now() - startedMs < 1500, `${performance.now() - startedMs} ms`);
  assert.match(text, /token_revoked/);
  assert.equal(codeOf(await chat(token)), 'token_revoked');
});
