import assert from 'node:assert/strict';
import { createServer, type ServerResponse } from 'node:http';
import { after, before, test } from 'node:test';
import { createTenantClient, StoaError, type TenantClient } from './index.ts';

const entry = {
  id: 'aud_01h455vb4pex5vsknk084sn02q',
  object: 'audit_entry',
  occurred_at: '2026-01-31T09:00:00.000Z',
  action: 'keys.create',
  resource: { type: 'api_key', id: '00a1B2c3D4e5' },
  outcome: 'succeeded',
  count: 1,
  before: null,
  after: { name: 'Zürich' },
  client_address: '192.0.2.1',
  user_agent: null,
  request_id: null,
  actor: { type: 'key', id: '00a1B2c3D4e5', role: 'admin', member_id: null, token_id: null, end_user: null },
};
const line = `${JSON.stringify(entry)}\n`;

let answer: (response: ServerResponse) => void = () => undefined;
let url = '';
let client: TenantClient;
const server = createServer((request, response) => {
  url = request.url ?? '';
  response.setHeader('content-type', 'application/x-ndjson');
  answer(response);
});

before(async () => {
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  client = createTenantClient({ baseUrl: `http://127.0.0.1:${port}`, apiKey: 'stoa_sk_x' });
});

after(() => {
  server.closeAllConnections();
  server.close();
});

async function taken(): Promise<string[]> {
  const actions: string[] = [];
  for await (const { action } of client.audit.export({ action: 'keys.create', outcome: undefined })) {
    actions.push(action);
  }
  return actions;
}

function isUnexpected(error: unknown): boolean {
  return error instanceof StoaError && error.code === 'unexpected_answer';
}

test('lines are read whole across any cut of the bytes, and the query goes along', async () => {
  const bytes = Buffer.from(line.repeat(3));
  answer = (response) => {
    for (let start = 0; start < bytes.length; start += 7) response.write(bytes.subarray(start, start + 7));
    response.end();
  };
  assert.deepEqual(await taken(), ['keys.create', 'keys.create', 'keys.create']);
  assert.equal(url, '/v1/audit/export?action=keys.create');
});

test('no lines are no values', async () => {
  answer = (response) => response.end();
  assert.deepEqual(await taken(), []);
});

test('an end in the midst of a line, and a line of another shape, are errors', async () => {
  answer = (response) => response.end(`${line}${line.slice(0, 40)}`);
  await assert.rejects(taken(), isUnexpected);
  answer = (response) => response.end(`${line}{"id":1}\n`);
  await assert.rejects(taken(), isUnexpected);
});

test('a connection that is cut is an error, never an end', async () => {
  answer = (response) => {
    response.write(line, () => response.destroy());
  };
  await assert.rejects(taken(), (error) => error instanceof StoaError && error.code === 'connection_failed');
});

test('leaving the loop ends the call', { timeout: 5_000 }, async () => {
  const closed = Promise.withResolvers<void>();
  answer = (response) => {
    response.write(line);
    response.once('close', () => closed.resolve());
  };
  for await (const { id } of client.audit.export()) {
    assert.equal(id, entry.id);
    break;
  }
  await closed.promise;
});
