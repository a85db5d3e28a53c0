/**
 * Webhooks through a whole Stoa: a tenant makes one by the SDK, calls a model, and verifies what comes with the SDK's
 * `verifyWebhook`; addresses inside the network are refused where the deployment does not list them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { createTenantClient, type TenantClient, verifyWebhook, WebhookError } from '@stoa/sdk';
import { eventually, type StoaProcess, startStoa } from './stoa-process.ts';

interface Message {
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: string;
}

let stoa: StoaProcess;
let client: TenantClient;
let url: string;
let status = 204;
const messages: Message[] = [];
const server = createServer((request, response) => {
  let body = '';
  request.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  request.on('end', () => {
    messages.push({ headers: { ...request.headers }, body });
    response.writeHead(status).end();
  });
});

before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  url = `http://127.0.0.1:${port}/hook`;
  stoa = await startStoa({ env: { STOA_OUTBOUND_ALLOW: `127.0.0.1:${port}` } });
  const { baseUrl, demo } = stoa.credentials;
  client = createTenantClient({ baseUrl, apiKey: demo.apiKey });
});

after(async () => {
  await stoa?.dispose();
  server.close();
  server.closeAllConnections();
});

/** The first message of this type, waited for. */
async function messageOf(type: string): Promise<Message> {
  return eventually(`a message of ${type}`, async () =>
    messages.find(({ body }) => body.includes(`"type":"${type}"`)),
  );
}

test('a completed request is told to the tenant’s endpoint, and the SDK verifies it', async () => {
  const made = await client.webhooks.create({ url, event_types: ['request.completed.v1'] });
  const chat = await stoa.call('POST', '/v1/chat/completions', {
    body: { model: 'auto', messages: [{ role: 'user', content: 'How are tenants isolated?' }] },
  });
  assert.equal(chat.status, 200, chat.text);
  const { headers, body } = await messageOf('request.completed.v1');
  const secret = made.secret ?? '';
  const { id } = await verifyWebhook({ payload: body, headers, secret });
  assert.match(id, /^evt_/);
  const requestId = String(chat.headers['x-request-id']);
  assert.ok(body.includes(`"request_id":"${requestId}"`), body);
  const explained = await client.requests.read(requestId);
  assert.ok(body.includes(explained.trace_id));
  for (const forged of [`${body} `, body.replace('completed', 'failed')]) {
    await assert.rejects(verifyWebhook({ payload: forged, headers, secret }), WebhookError);
  }
  const later = new Date(Date.now() + 400_000);
  await assert.rejects(verifyWebhook({ payload: body, headers, secret, now: later }), /too old/);
});

test('v1a is verified with the public key, and a failed message is redelivered under its id', async () => {
  status = 500;
  const made = await client.webhooks.create({ url, event_types: ['control.changed.v1'], signature: 'v1a' });
  const first = await messageOf('control.changed.v1');
  const secret = made.public_key ?? '';
  const { id } = await verifyWebhook({ payload: first.body, headers: first.headers, secret });
  const [failed] = await eventually('the failed delivery', async () => {
    const { data } = await client.webhooks.deliveries.list(made.id).page();
    return data[0]?.attempts === 1 ? data : undefined;
  });
  status = 200;
  await client.webhooks.deliveries.redeliver(made.id, failed?.id ?? '');
  const done = await eventually('the redelivery', async () => {
    const found = await client.webhooks.deliveries.read(made.id, failed?.id ?? '');
    return found.state === 'delivered' ? found : undefined;
  });
  assert.deepEqual(
    done.attempt_log.map((attempt) => attempt.status),
    [500, 200],
  );
  const again = messages.filter(({ headers }) => headers['webhook-id'] === id);
  assert.equal(again.length, 2);
});

test('addresses inside the network are refused with the field', async () => {
  for (const inner of ['http://127.0.0.1:1/', 'http://169.254.169.254/', 'http://[::1]/', 'https://redis/']) {
    await assert.rejects(client.webhooks.create({ url: inner, event_types: ['*'] }), /url:/, inner);
  }
});
