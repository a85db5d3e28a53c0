/**
 * A provider's credential goes to the address that it was given with, and nowhere else: nothing that a client writes into a
 * request, no redirect, and no change of the address alone sends it to somebody else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { codeOf } from './answer-shapes.ts';
import { type Answer, send, startStoa, type StoaProcess } from './stoa-process.ts';

const credential = 'sk-of-the-operator-4711-0815';

interface Seen {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: string;
}

interface Listener {
  readonly url: string;
  readonly seen: Seen[];
  close(): Promise<void>;
}

/** Answers every chat and listing; a chat that says `redirect` gets sent on to `redirectsTo`. */
async function listen(redirectsTo?: () => string): Promise<Listener> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    readText(request).then(
      (body) => {
        const { url: path = '', headers } = request;
        seen.push({ path, authorization: headers.authorization, body });
        if (redirectsTo !== undefined && body.includes('"redirect"')) {
          response.writeHead(307, { location: `${redirectsTo()}/chat/completions` }).end();
          return;
        }
        const listing = { object: 'list', data: [{ id: 'echo', object: 'model' }] };
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify(request.method === 'GET' ? listing : completion));
      },
      () => response.destroy(),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  return {
    url: `http://127.0.0.1:${address.port}/v1`,
    seen,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function readText(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(z.instanceof(Buffer).parse(part));
  return Buffer.concat(parts).toString();
}

const completion = {
  id: 'c',
  object: 'chat.completion',
  created: 1,
  model: 'echo',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hi' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
};
const identified = z.looseObject({ id: z.string(), name: z.string(), source: z.string() });

let provider: Listener;
let thief: Listener;
let stoa: StoaProcess;
let tenant: { readonly apiKey: string };

before(async () => {
  thief = await listen();
  provider = await listen(() => thief.url);
  stoa = await startStoa({
    env: { STOA_OPENAI_BASE_URL: provider.url, STOA_OPENAI_API_KEY: credential, STOA_LOG_LEVEL: 'error' },
  });
  tenant = await stoa.newTenant('thief');
});

after(async () => {
  await stoa?.dispose();
  await Promise.all([provider?.close(), thief?.close()]);
});

function chat(more: object = {}, headers: Record<string, string> = {}, query = ''): Promise<Answer> {
  return send('POST', `${stoa.credentials.baseUrl}/v1/chat/completions${query}`, {
    authorization: `Bearer ${tenant.apiKey}`,
    body: { model: 'echo', messages: [{ role: 'user', content: 'hi' }], ...more },
    headers,
  });
}

test('a base URL that a client gives, in whatever place, is never called and gets no key of a provider', async () => {
  const { url } = thief;
  const host = new URL(url).host;
  const names = [
    'base_url',
    'api_base',
    'baseURL',
    'api_url',
    'endpoint',
    'url',
    'provider_url',
    'custom_host',
  ];
  const bodies: object[] = names.map((name) => ({ [name]: url }));
  for (const nested of ['extra_body', 'metadata', 'provider', 'config', 'litellm_params', 'model_config']) {
    bodies.push({ [nested]: { base_url: url, api_base: url } });
  }
  for (const model of [
    url,
    `openai/${url}`,
    `${url}/echo`,
    `http://echo@${host}/v1`,
    `echo@${url}`,
    `//${host}/v1`,
  ]) {
    bodies.push({ model });
  }
  const headers = [
    'x-base-url',
    'openai-base-url',
    'x-api-base',
    'x-portkey-custom-host',
    'x-provider-url',
    'api-base',
    'x-forwarded-host',
    'x-original-url',
    'x-rewrite-url',
    'forwarded',
    'x-stoa-base-url',
    'x-stoa-target',
  ].map((name) => ({ [name]: name === 'x-forwarded-host' ? host : url }));
  const answers = await Promise.all([
    ...bodies.map((body) => chat(body)),
    ...headers.map((header) => chat({}, header)),
    chat({}, { host }),
    ...names.map((name) => chat({}, {}, `?${name}=${encodeURIComponent(url)}`)),
  ]);
  assert.ok(answers.filter(({ status }) => status === 200).length > 10, 'some of them are served as usual');
  for (const answer of answers) {
    assert.ok(answer.status < 500, answer.text);
    assert.ok(!answer.text.includes(credential), answer.text);
  }
  assert.deepEqual(thief.seen, []);
  const chats = provider.seen.filter(({ path }) => path.endsWith('/chat/completions'));
  assert.ok(chats.length > 10);
  for (const { authorization } of provider.seen) assert.equal(authorization, `Bearer ${credential}`);
});

test("a provider's redirect to somebody else is not followed with its key, nor at all", async () => {
  const answer = await chat({ messages: [{ role: 'user', content: 'redirect' }] });
  assert.equal(answer.status, 502, answer.text);
  assert.deepEqual(thief.seen, []);
  assert.ok(!answer.text.includes(new URL(thief.url).host), answer.text);
});

test("a tenant's key makes and moves no provider, and its policy can only name what there is", async () => {
  const body = { name: 'mine', kind: 'openai-compatible', base_url: thief.url };
  const made = await stoa.call('POST', '/control/v1/providers', { key: tenant.apiKey, body });
  assert.deepEqual([made.status, codeOf(made)], [401, 'invalid_api_key']);
  const guessed = await stoa.call('POST', '/v1/providers', { key: tenant.apiKey, body });
  assert.equal(guessed.status, 404);
  const policy = await stoa.call('PUT', '/v1/policy', {
    key: tenant.apiKey,
    body: { order: [thief.url], base_url: thief.url },
  });
  assert.equal(policy.status, 400, policy.text);
  assert.deepEqual(thief.seen, []);
});

test("the operator's change of a provider's address alone does not take its credential along", async () => {
  const created = await stoa.call('POST', '/control/v1/providers', {
    body: {
      name: 'moved',
      kind: 'openai-compatible',
      base_url: provider.url,
      credential,
      headers: { 'x-account': 'secret-account' },
      discover: false,
    },
  });
  assert.equal(created.status, 201, created.text);
  assert.ok(!created.text.includes(credential));
  const { id } = identified.parse(created.json);
  const moved = await stoa.call('PATCH', `/control/v1/providers/${id}`, { body: { base_url: thief.url } });
  assert.deepEqual([moved.status, codeOf(moved)], [400, 'invalid_request'], moved.text);
  assert.deepEqual(thief.seen, []);
});
