import { connect, type Socket } from 'node:net';
import type { AnyAnswer } from './error-answer.ts';

/** HTTP by hand, for what no client library would send: every byte and every pause is the test's own. */
export interface RawOutcome {
  /** In the order of their arrival, interim answers (1xx) among them. */
  readonly answers: readonly AnyAnswer[];
  /** Whether the server ended or cut the connection. */
  readonly isClosed: boolean;
  readonly durationMs: number;
}

export interface RawOptions {
  /** Final answers to wait for; default 1. */
  readonly answers?: number;
  /** Default 5000. */
  readonly withinMs?: number;
  /** Waits for the end of the connection, too. */
  readonly untilClosed?: boolean;
  /** The answer has no body whatever its Content-Length says. */
  readonly isHead?: boolean;
}

/**
 * Connects, lets `write` send, and collects answers until enough of them are whole or the connection ends.
 * Rejects where neither happens in time.
 */
export async function rawExchange(
  baseUrl: string,
  write: (socket: Socket) => void,
  options: RawOptions = {},
): Promise<RawOutcome> {
  const { answers: wanted = 1, withinMs = 5_000, untilClosed = false, isHead = false } = options;
  const { hostname, port } = new URL(baseUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  const startedAt = performance.now();
  let received = Buffer.alloc(0);
  let isClosed = false;
  try {
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        const finals = parseAnswers(received, isHead).filter(({ status }) => status >= 200);
        if (isClosed || (finals.length >= wanted && !untilClosed)) resolve();
      };
      const timer = setTimeout(() => {
        reject(
          new Error(`nothing whole within ${withinMs} ms, but ${received.toString('latin1').slice(0, 400)}`),
        );
      }, withinMs);
      const close = (): void => {
        isClosed = true;
        clearTimeout(timer);
        look();
      };
      socket.on('data', (part: Buffer) => {
        received = Buffer.concat([received, part]);
        look();
      });
      socket.on('end', close);
      socket.on('close', close);
      // A reset is an outcome, told by `isClosed` and by what arrived before it.
      socket.on('error', () => undefined);
      socket.once('connect', () => write(socket));
    });
  } finally {
    socket.destroy();
  }
  return { answers: parseAnswers(received, isHead), isClosed, durationMs: performance.now() - startedAt };
}

/** The whole answers in what was received; an incomplete last one is left out. */
function parseAnswers(received: Buffer, isHead: boolean): AnyAnswer[] {
  const found: AnyAnswer[] = [];
  let at = 0;
  for (;;) {
    const headEnd = received.indexOf('\r\n\r\n', at);
    if (headEnd === -1) return found;
    const [first = '', ...lines] = received.toString('latin1', at, headEnd).split('\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1] ?? 0);
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const isBodyless = isHead || status < 200 || status === 204;
    const length = isBodyless ? 0 : Number(headers['content-length'] ?? 0);
    const end = headEnd + 4 + length;
    if (end > received.length) return found;
    found.push({ status, headers, text: received.toString('utf8', headEnd + 4, end) });
    at = end;
  }
}

/** The head of a request with the lines given, ended by an empty one. */
export function head(first: string, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${first} HTTP/1.1\r\nHost: stoa\r\n${lines.join('')}\r\n`;
}

/** The one final answer of an exchange; throws where there is another number of them. */
export function onlyAnswer({ answers }: RawOutcome): AnyAnswer {
  const finals = answers.filter(({ status }) => status >= 200);
  const [answer] = finals;
  if (answer === undefined || finals.length > 1) throw new Error(`${finals.length} answers instead of one`);
  return answer;
}
