/**
 * An OpenAI-compatible server for load runs: it answers at once or after `--latency` ms, a chat in one piece or in
 * `--chunks` frames `--interval` ms apart. It scans instead of parsing, so that it stays cheaper than what is measured.
 */
import http from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    latency: { type: 'string', default: '0' },
    chunks: { type: 'string', default: '50' },
    interval: { type: 'string', default: '0' },
  },
});
const latencyMs = Number(values.latency);
const intervalMs = Number(values.interval);
const chunkCount = Number(values.chunks);
const sentence =
  'Every stall in the walk has its own door and its own ledger, and the roof over them all is kept by one hand, so a merchant who shuts late disturbs nobody, and what was sold is written down before the buyer leaves. ';
const words = sentence.repeat(2).trim().split(' ');
const common = { id: 'chatcmpl-load', created: 1_760_000_000, model: 'load-model' };

const usage = (outputTokens: number) => ({
  prompt_tokens: 120,
  completion_tokens: outputTokens,
  total_tokens: 120 + outputTokens,
  prompt_tokens_details: { cached_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0 },
});
const whole = Buffer.from(
  JSON.stringify({
    ...common,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: words.join(' '), refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: usage(words.length),
  }),
);
const frame = (value: object): Buffer => Buffer.from(`data: ${JSON.stringify(value)}\n\n`);
const delta = (content: object, finish: string | null = null): Buffer =>
  frame({
    ...common,
    object: 'chat.completion.chunk',
    choices: [{ index: 0, delta: content, logprobs: null, finish_reason: finish }],
  });
const frames = [
  delta({ role: 'assistant', content: '' }),
  ...Array.from({ length: chunkCount }, (_, index) =>
    delta({ content: `${words[index % words.length] ?? ''} ` }),
  ),
  delta({}, 'stop'),
];
const usageFrame = frame({
  ...common,
  object: 'chat.completion.chunk',
  choices: [],
  usage: usage(chunkCount),
});
const done = Buffer.from('data: [DONE]\n\n');
const models = Buffer.from(
  JSON.stringify({
    object: 'list',
    data: [{ id: 'load-model', object: 'model', created: common.created, owned_by: 'load' }],
  }),
);

function answerWhole(response: http.ServerResponse, body: Buffer): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(body);
}

function answerStream(response: http.ServerResponse, wantsUsage: boolean): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const all = wantsUsage ? [...frames, usageFrame, done] : [...frames, done];
  if (intervalMs === 0) {
    for (const part of all) response.write(part);
    response.end();
    return;
  }
  let next = 0;
  const timer = setInterval(() => {
    const part = all[next++];
    if (part) response.write(part);
    if (next < all.length) return;
    clearInterval(timer);
    response.end();
  }, intervalMs);
  response.on('close', () => clearInterval(timer));
}

const server = http.createServer((request, response) => {
  if (request.method === 'GET') {
    answerWhole(response, models);
    return;
  }
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const text = Buffer.concat(parts).toString('latin1');
    const answer = (): void => {
      if (/"stream"\s*:\s*true/.test(text)) answerStream(response, text.includes('include_usage'));
      else answerWhole(response, whole);
    };
    if (latencyMs > 0) setTimeout(answer, latencyMs);
    else answer();
  });
});
server.keepAliveTimeout = 120_000;
server.on('connection', (socket) => socket.setNoDelay(true));
server.listen(Number(values.port), '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`listening ${typeof address === 'object' && address ? address.port : 0}\n`);
});
process.on('SIGTERM', () => process.exit(0));
