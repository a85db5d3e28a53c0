import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { type AnyAnswer, assertError, errorCodeOf } from './error-answer.ts';
import { head, onlyAnswer, rawExchange } from './raw-http.ts';

const bodyLimitBytes = 1024 * 1024;
let upstream: EchoUpstream;
let stoa: StoaProcess;
/** Both listeners, each with a path that takes a body and the credential that it wants. */
let doors: { url: string; path: string; authorization: string }[];

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({
    env: {
      STOA_OPENAI_BASE_URL: upstream.url,
      STOA_LOG_LEVEL: 'error',
      STOA_BODY_LIMIT_BYTES: '1MiB',
      STOA_HEADERS_TIMEOUT_MS: '500',
      STOA_REQUEST_TIMEOUT_MS: '1000',
    },
  });
  const { baseUrl, adminUrl, operatorKey, demo } = stoa.credentials;
  doors = [
    { url: baseUrl, path: '/v1/chat/completions', authorization: `Bearer ${demo.apiKey}` },
    { url: adminUrl, path: '/control/v1/tenants', authorization: `Bearer ${operatorKey}` },
  ];
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

const json = { 'content-type': 'application/json' };
const chat = JSON.stringify({ model: echoModel, messages: [{ role: 'user', content: 'hi' }] });

async function raw(
  url: string,
  text: string,
  options: Parameters<typeof rawExchange>[2] = {},
): Promise<AnyAnswer> {
  return onlyAnswer(await rawExchange(url, (socket) => socket.write(text), options));
}

test('a stated body over the limit is 413 before it is sent, readable by a client that goes on sending', async () => {
  for (const { url, path, authorization } of doors) {
    const start = head(`POST ${path}`, {
      ...json,
      authorization,
      'content-length': String(30 * bodyLimitBytes),
    });
    assertError(await raw(url, start), 'body_too_large', null, 'without one byte of the body');
    const outcome = await rawExchange(
      url,
      (socket) => {
        socket.write(start);
        for (let sent = 0; sent < 30; sent += 1) socket.write(Buffer.alloc(bodyLimitBytes, 0x20));
      },
      { untilClosed: true },
    );
    assertError(onlyAnswer(outcome), 'body_too_large');
  }
});

test('a chunked body over the limit is 413, readable by a client that goes on sending', async () => {
  for (const { url, path, authorization } of doors) {
    const part = Buffer.alloc(64 * 1024, 0x20);
    const chunk = Buffer.concat([Buffer.from('10000\r\n'), part, Buffer.from('\r\n')]);
    const outcome = await rawExchange(url, (socket) => {
      socket.write(head(`POST ${path}`, { ...json, authorization, 'transfer-encoding': 'chunked' }));
      const send = (left: number): void => {
        if (left === 0) socket.write('0\r\n\r\n');
        else socket.write(chunk, () => send(left - 1));
      };
      send(100);
    });
    assertError(onlyAnswer(outcome), 'body_too_large');
  }
});

test('a client library that sends a body over the limit reads the 413', async () => {
  for (const size of [bodyLimitBytes + 1, 40 * bodyLimitBytes]) {
    const answer = await stoa.call('POST', '/v1/chat/completions', { body: Buffer.alloc(size, 0x20) });
    assertError(answer, 'body_too_large');
  }
  const whole = await stoa.call('POST', '/v1/chat/completions', {
    body: chat + ' '.repeat(bodyLimitBytes - chat.length),
  });
  assert.equal(whole.status, 200, 'a body of exactly the limit is taken');
});

test('a stranger gets its 401 while it sends, and the body is dropped', async () => {
  for (const { url, path } of doors) {
    const start = head(`POST ${path}`, { ...json, 'content-length': String(20 * bodyLimitBytes) });
    const outcome = await rawExchange(url, (socket) => {
      socket.write(start);
      for (let sent = 0; sent < 20; sent += 1) socket.write(Buffer.alloc(bodyLimitBytes, 0x20));
    });
    assertError(onlyAnswer(outcome), 'invalid_api_key');
  }
});

test('header floods are 431 in the one error shape, on a fresh connection and on a used one', async () => {
  for (const { url, path, authorization } of doors) {
    const flood = head(`GET ${path}`, { authorization, 'x-flood': 'a'.repeat(20_000) });
    assertError(await raw(url, flood), 'header_too_large');
    const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, at) => [`x-${at}`, '1']));
    assertError(await raw(url, head(`GET ${path}`, { authorization, ...many })), 'header_too_large');
    assertError(await raw(url, head(`GET /${'a'.repeat(20_000)}`, {})), 'header_too_large');
    const used = await rawExchange(
      url,
      (socket) => {
        socket.write(head('GET /nothing', {}));
        socket.once('data', () => socket.write(flood));
      },
      { answers: 2 },
    );
    assert.deepEqual(
      used.answers.map((answer) => errorCodeOf(answer)),
      ['not_found', 'header_too_large'],
    );
  }
});

test('no header is dropped in silence, however many come before it', async () => {
  const { url, path, authorization } = doors[0] ?? assert.fail('no door');
  const lines = Array.from({ length: 2_500 }, () => 'a:\r\n').join('');
  const text = `GET ${path.replace('chat/completions', 'models')} HTTP/1.1\r\nHost: x\r\n${lines}Authorization: ${authorization}\r\n\r\n`;
  assert.equal((await raw(url, text)).status, 200);
});

test('a slow head and a slow body are 408 within their deadline', async () => {
  for (const { url, path, authorization } of doors) {
    const slowHead = await rawExchange(url, (socket) =>
      socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nX-Slow: `),
    );
    assertError(onlyAnswer(slowHead), 'request_timeout');
    const slowBody = await rawExchange(url, (socket) => {
      socket.write(head(`POST ${path}`, { ...json, authorization, 'content-length': '1000' }));
      socket.write('{"model":');
      const drip = setInterval(() => socket.write(' '), 100);
      socket.on('close', () => clearInterval(drip));
    });
    assertError(onlyAnswer(slowBody), 'request_timeout');
    assert.ok(slowBody.durationMs < 4_000, `${slowBody.durationMs} ms`);
  }
});

test('a client that waits for 100 Continue gets it where its body is wanted, and the refusal alone where not', async () => {
  const { url, path, authorization } = doors[0] ?? assert.fail('no door');
  const expect = { ...json, expect: '100-continue' };
  const taken = await rawExchange(url, (socket) => {
    socket.write(head(`POST ${path}`, { ...expect, authorization, 'content-length': String(chat.length) }));
    socket.once('data', () => socket.write(chat));
  });
  assert.deepEqual(
    taken.answers.map(({ status }) => status),
    [100, 200],
  );
  const large = head(`POST ${path}`, {
    ...expect,
    authorization,
    'content-length': String(bodyLimitBytes + 1),
  });
  const refused = await rawExchange(url, (socket) => socket.write(large));
  assert.deepEqual(
    refused.answers.map((answer) => errorCodeOf(answer)),
    ['body_too_large'],
  );
  const stranger = head(`POST ${path}`, { ...expect, 'content-length': '10' });
  const unknown = await rawExchange(url, (socket) => socket.write(stranger));
  assert.deepEqual(
    unknown.answers.map((answer) => errorCodeOf(answer)),
    ['invalid_api_key'],
  );
  const odd = head(`POST ${path}`, {
    ...json,
    authorization,
    expect: 'a-miracle',
    'content-length': String(chat.length),
  });
  assert.equal((await raw(url, odd + chat)).status, 200);
});

test('a content type that is not JSON, or none, is 415; a packed body, too', async () => {
  for (const { url, path, authorization } of doors) {
    const post = async (headers: Record<string, string>, body: string | Buffer): Promise<AnyAnswer> => {
      const start = head(`POST ${path}`, {
        authorization,
        'content-length': String(Buffer.byteLength(body)),
        ...headers,
      });
      return onlyAnswer(
        await rawExchange(url, (socket) => {
          socket.write(start);
          socket.write(body);
        }),
      );
    };
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/jsonx',
      'json',
      ';;;',
      '',
      'application/xml',
      `a/${'b'.repeat(5_000)}`,
    ]) {
      assertError(await post({ 'content-type': type }, chat), 'unsupported_media_type', null, type);
    }
    assertError(await post({}, chat), 'unsupported_media_type', null, 'none');
    for (const coding of ['gzip', 'br', 'GZIP', 'gzip, gzip', 'nonsense']) {
      assertError(
        await post({ ...json, 'content-encoding': coding }, gzipSync(chat)),
        'unsupported_media_type',
        null,
        coding,
      );
    }
    assertError(await post(json, gzipSync(chat)), 'invalid_encoding', null, 'packed without saying so');
  }
  const { url, path, authorization } = doors[0] ?? assert.fail('no door');
  for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/json;odd=1']) {
    const start = head(`POST ${path}`, {
      authorization,
      'content-type': type,
      'content-length': String(chat.length),
    });
    assert.equal((await raw(url, start + chat)).status, 200, type);
  }
});

test('requests that come all at once on one connection are answered in their order', async () => {
  const { url, path, authorization } = doors[0] ?? assert.fail('no door');
  const one = head(`POST ${path}`, { ...json, authorization, 'content-length': String(chat.length) }) + chat;
  const models = head('GET /v1/models', { authorization });
  const outcome = await rawExchange(url, (socket) => socket.write(one + models + head('GET /x', {}) + one), {
    answers: 4,
  });
  assert.deepEqual(
    outcome.answers.map(({ status }) => status),
    [200, 200, 404, 200],
  );
});

test('what is no HTTP/1.1 is 400 in the one error shape', async () => {
  for (const { url, path, authorization } of doors) {
    const wrong = [
      'nonsense\r\n\r\n',
      '\u0016\u0003\u0001\u0002\u0000\u0001\u0000',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      `GET ${path} HTTP/1.1\r\n\r\n`,
      `GET ${path} HTTP/1.1\r\nHost: x\r\nbad header: 1\r\n\r\n`,
      `GET ${path} HTTP/1.1\r\nHost: x\r\nx: a\u0000b\r\n\r\n`,
      `GET ${path} HTTP/1.1\r\nHost: x\r\nx-request-id: a\r\n b\r\n\r\n`.replace('\r\n b', '\n b'),
      `FOO ${path} HTTP/1.1\r\nHost: x\r\n\r\n`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
      `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Length: 99999999999999999999999\r\n\r\n`,
    ];
    for (const text of wrong) assertError(await raw(url, text), 'bad_request', null, JSON.stringify(text));
  }
});

test('HEAD is answered like GET without the body, OPTIONS and the rest are 405 with Allow', async () => {
  const { url, authorization } = doors[0] ?? assert.fail('no door');
  const livez = await raw(url, head('HEAD /livez', {}), { isHead: true });
  assert.equal(livez.status, 200);
  assert.equal((await raw(url, head('HEAD /v1/models', { authorization }), { isHead: true })).status, 200);
  assert.equal((await raw(url, head('HEAD /v1/models', {}), { isHead: true })).status, 401);
  assert.equal((await raw(url, head('HEAD /nothing', {}), { isHead: true })).status, 404);
  assert.equal((await raw(url, head('HEAD /v1/chat/completions', {}), { isHead: true })).status, 405);
  for (const method of ['OPTIONS', 'DELETE', 'PUT', 'PATCH', 'GET']) {
    const answer = await raw(url, head(`${method} /v1/chat/completions`, { authorization }));
    assertError(answer, 'method_not_allowed', null, method);
    assert.equal(answer.headers['allow'], 'POST');
  }
  for (const method of ['TRACE', 'PROPFIND', 'SEARCH', 'QUERY', 'M-SEARCH']) {
    const answer = await raw(url, head(`${method} /v1/chat/completions`, { authorization }));
    assert.ok(
      ['bad_request', 'not_found', 'method_not_allowed'].includes(errorCodeOf(answer, method)),
      answer.text,
    );
  }
});

test('after all that, the process serves as before', async () => {
  assert.equal((await stoa.call('POST', '/v1/chat/completions', { body: chat })).status, 200);
  assert.equal((await stoa.call('GET', '/readyz')).status, 200);
});
