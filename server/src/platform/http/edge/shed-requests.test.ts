import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { LoadShedding } from './shedding.ts';
import { shedRequests } from './shed-requests.ts';

class Always extends LoadShedding {
  override refuses(): boolean {
    return true;
  }
}

async function withServer(run: (port: number, shed: string[]) => Promise<void>): Promise<void> {
  const shed: string[] = [];
  const server = http.createServer((_request, response) => response.end('served'));
  shedRequests(server, new Always(25), { add: (_value, labels) => shed.push(labels?.['priority'] ?? '') });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  try {
    await run(address.port, shed);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

interface Answered {
  readonly status: number | undefined;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

async function call(options: http.RequestOptions, body?: string | Buffer): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host: '127.0.0.1', ...options }, (response) => {
      let text = '';
      response.on('data', (part: Buffer) => (text += part.toString()));
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

test('calls of tenants are refused with 503 in the one shape of errors; health never is', async () => {
  await withServer(async (port, shed) => {
    const refused = await call({ port, path: '/v1/models', headers: { 'x-stoa-priority': 'batch' } });
    assert.equal(refused.status, 503);
    assert.equal(refused.headers['retry-after'], '5');
    assert.match(String(refused.headers['x-request-id']), /^req_[0-9a-z]{26}$/);
    assert.match(refused.text, /"code":"overloaded"/);
    assert.match(refused.text, /"status":503/);
    for (const path of ['/livez', '/readyz', '/openapi.json', '/metrics', '/v1x'])
      assert.equal((await call({ port, path })).text, 'served', path);
    assert.deepEqual(shed, ['batch']);
  });
});

test('a connection that was refused is read again, for each of its requests, also with more of them than are woken at once', async () => {
  await withServer(async (port, shed) => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 600 });
    const options = { port, path: '/v1/chat/completions', method: 'POST', agent };
    const askTwice = async (): Promise<(number | undefined)[]> => [
      (await call(options, 'x'.repeat(3000))).status,
      (await call(options, 'x')).status,
    ];
    const statuses = await Promise.all(Array.from({ length: 600 }, askTwice));
    assert.deepEqual(new Set(statuses.flat()), new Set([503]));
    assert.equal(shed.length, 1200);
    agent.destroy();
  });
});

test('no other spelling of a path that the router takes for the same gets past', async () => {
  await withServer(async (port) => {
    for (const path of [
      '/%76%31/chat/completions',
      '/v%31/models?x=1',
      `http://127.0.0.1:${port}/v1/models`,
      'http://x/v1/models',
    ])
      assert.equal((await call({ port, path })).status, 503, path);
    assert.equal((await call({ port, path: '/readyz?verbose=%31' })).text, 'served');
  });
});

test('a refused body is read away: the connection serves the next request, and a long one does not reset the answer', async () => {
  await withServer(async (port) => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const post = { port, agent, method: 'POST', path: '/v1/chat/completions' };
    for (let index = 0; index < 3; index++) assert.equal((await call(post, 'x'.repeat(10_000))).status, 503);
    assert.equal((await call({ port, agent, path: '/livez' })).text, 'served');
    const long = await call(post, Buffer.alloc(8 * 1024 * 1024));
    assert.deepEqual([long.status, long.headers['retry-after']], [503, '1']);
    agent.destroy();
  });
});
