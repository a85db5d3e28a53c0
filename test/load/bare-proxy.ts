/**
 * The least that a gateway in Node can do: read the request whole and parse it, forward it with undici, read the answer
 * whole and parse it, or pass the stream through. What Stoa's figures are compared with.
 */
import http from 'node:http';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';

const { values } = parseArgs({
  options: { port: { type: 'string', default: '0' }, upstream: { type: 'string', default: '' } },
});
const pool = new Pool(values.upstream, { connections: 256, pipelining: 1, keepAliveTimeout: 60_000 });
const skipped = new Set([
  'host',
  'connection',
  'keep-alive',
  'transfer-encoding',
  'content-length',
  'expect',
]);

async function forward(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  body: Buffer,
): Promise<void> {
  JSON.parse(body.toString('utf8'));
  const headers: Record<string, string> = { 'content-length': String(body.length) };
  for (const [name, value] of Object.entries(request.headers)) {
    if (typeof value === 'string' && !skipped.has(name)) headers[name] = value;
  }
  const answer = await pool.request({ path: request.url ?? '/', method: 'POST', headers, body });
  const type = String(answer.headers['content-type']);
  if (type.startsWith('text/event-stream')) {
    response.writeHead(200, { 'content-type': type });
    for await (const chunk of answer.body) {
      if (!response.write(chunk)) await new Promise((resume) => response.once('drain', resume));
    }
    response.end();
    return;
  }
  const whole = Buffer.from(await answer.body.arrayBuffer());
  JSON.parse(whole.toString('utf8'));
  response.writeHead(answer.statusCode, { 'content-type': type, 'content-length': whole.length });
  response.end(whole);
}

const server = http.createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    forward(request, response, Buffer.concat(parts)).catch(() => response.destroy());
  });
});
server.keepAliveTimeout = 120_000;
server.listen(Number(values.port), '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`listening ${typeof address === 'object' && address ? address.port : 0}\n`);
});
process.on('SIGTERM', () => process.exit(0));
