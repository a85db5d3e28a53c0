import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { Database } from '#db';
import type { Logger } from '#kernel';
import { createNatsLink, type NatsLink } from './link.ts';

/** Reads no log: the server of these tests never lets anybody in. */
const noDatabase: Pick<Database, 'withSystem'> = {
  withSystem: () => Promise.reject(new Error('no database')),
};

function recorder(): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const note = (fields: object, message: string): void => {
    const error: unknown = Reflect.get(fields, 'err');
    const told =
      error instanceof Error ? `${String(error.stack)} ${JSON.stringify(error)} ${String(error.cause)}` : '';
    lines.push(`${message} ${JSON.stringify(fields)} ${told}`);
  };
  const logger: Logger = { debug: note, info: note, warn: note, error: note, child: () => logger };
  return { logger, lines };
}

function linkTo(url: string, logger: Logger): NatsLink {
  return createNatsLink(
    { db: noDatabase, logger },
    { url, stream: 'NONE', subject: 'none', maxAgeDays: 1, maxBytes: 1024 * 1024, replicas: 1 },
  );
}

/** Greets like NATS, notes what it is sent, and refuses whoever signs in. */
async function openRefuser(): Promise<{ port: number; sent: string[]; close: () => void }> {
  const sent: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      sent.push(String(bytes));
      socket.end("-ERR 'Authorization Violation'\r\n");
    });
    const info = {
      server_id: 'X',
      version: '2.9.10',
      proto: 1,
      headers: true,
      auth_required: true,
      max_payload: 1,
    };
    socket.write(`INFO ${JSON.stringify(info)}\r\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  return { port: address.port, sent, close: () => server.close() };
}

for (const [what, login, expected] of [
  ['a user and a password', 'user:pa55%2Fword@', '"pass":"pa55/word"'],
  ['a token', 't0ken%2F55@', '"auth_token":"t0ken/55"'],
] as const) {
  test(`${what} in the URL reach the server, and no log line or health text`, async () => {
    const refuser = await openRefuser();
    const { logger, lines } = recorder();
    const link = linkTo(`nats://${login}127.0.0.1:${refuser.port}`, logger);
    await link.start();
    while (!refuser.sent.some((text) => text.includes(expected)) || lines.length === 0) {
      await new Promise((resolve) => {
        setTimeout(resolve, 10);
      });
    }
    assert.equal(link.health.isHealthy(), false);
    const told = [...lines, link.problem()].join('\n');
    assert.doesNotMatch(told, /pa55|t0ken/);
    assert.match(told, /127\.0\.0\.1/);
    await link.stop();
    refuser.close();
  });
}
