import { connect, type Socket } from 'node:net';

/**
 * More requests than a server can answer, from one core: prepared bytes over kept connections, started on a schedule whatever
 * the answers do. Of an answer only its status and its end are looked at, so one costs a few microseconds.
 */
export interface Kind {
  readonly name: string;
  /** A whole request: its head and its body. */
  readonly bytes: Buffer;
  /** Of a hundred requests. */
  readonly share: number;
}

export interface Tally {
  sent: number;
  admitted: number;
  shed: number;
  other: number;
  readonly admittedMs: number[];
  readonly shedMs: number[];
}

export interface FloodResult {
  readonly seconds: number;
  readonly byKind: ReadonlyMap<string, Tally>;
  /** Requests that were due while every connection was taken. */
  readonly held: number;
}

interface Line {
  readonly socket: Socket;
  kind: Kind | null;
  sentAtMs: number;
  /** Of the answer, as far as it came. */
  text: string;
}

/** An answer's status and whether it is there whole; null as long as its head is not. */
function statusOf(text: string): { readonly status: number; readonly isWhole: boolean } | null {
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd === -1) return null;
  const length = Number(/content-length: (\d+)/i.exec(text.slice(0, headEnd))?.[1] ?? 0);
  return { status: Number(text.slice(9, 12)), isWhole: text.length >= headEnd + 4 + length };
}

/**
 * @param perSecond how many to start each second; null: as many as the connections carry, one at a time each
 */
export async function flood(
  origin: string,
  kinds: readonly Kind[],
  perSecond: number | null,
  { connections, seconds }: { readonly connections: number; readonly seconds: number },
): Promise<FloodResult> {
  const { hostname, port } = new URL(origin);
  const byKind = new Map<string, Tally>();
  for (const { name } of kinds)
    byKind.set(name, { sent: 0, admitted: 0, shed: 0, other: 0, admittedMs: [], shedMs: [] });
  const wheel = kinds.flatMap((kind) => Array.from({ length: kind.share }, () => kind));
  const idle: Line[] = [];
  let turn = 0;
  let held = 0;
  const send = (line: Line): void => {
    // 37 is prime to a hundred: the kinds come mixed.
    const kind = wheel[(turn++ * 37) % wheel.length];
    if (!kind) return;
    line.kind = kind;
    line.sentAtMs = performance.now();
    line.text = '';
    line.socket.write(kind.bytes);
    const tally = byKind.get(kind.name);
    if (tally) tally.sent += 1;
  };
  const settle = (line: Line, status: number): void => {
    const tally = byKind.get(line.kind?.name ?? '');
    const ms = performance.now() - line.sentAtMs;
    line.kind = null;
    if (tally && status === 200) {
      tally.admitted += 1;
      tally.admittedMs.push(ms);
    } else if (tally && status === 503) {
      tally.shed += 1;
      tally.shedMs.push(ms);
    } else if (tally) tally.other += 1;
    if (perSecond === null && performance.now() < endMs) send(line);
    else idle.push(line);
  };
  const open = (): Promise<Line> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true });
      const line: Line = { socket, kind: null, sentAtMs: 0, text: '' };
      socket.setEncoding('latin1');
      socket.on('data', (part: string) => {
        line.text += part;
        const found = statusOf(line.text);
        if (found?.isWhole === true) settle(line, found.status);
      });
      socket.on('error', reject);
      socket.on('connect', () => resolve(line));
    });
  const lines = await Promise.all(Array.from({ length: connections }, open));
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  if (perSecond === null) for (const line of lines) send(line);
  else idle.push(...lines);
  let due = 0;
  while (performance.now() < endMs) {
    await new Promise((resume) => setTimeout(resume, 1));
    if (perSecond === null) continue;
    const planned = ((performance.now() - startMs) / 1000) * perSecond;
    for (; due < planned; due++) {
      const line = idle.pop();
      if (line) send(line);
      else held += 1;
    }
  }
  const elapsed = (performance.now() - startMs) / 1000;
  await new Promise((resume) => setTimeout(resume, 500));
  for (const { socket } of lines) socket.destroy();
  return { seconds: elapsed, byKind, held };
}
