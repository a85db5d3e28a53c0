/**
 * A TCP proxy with faults, to stand between a process and PostgreSQL, NATS or Redis in tests. The port stays the same
 * for its whole life. Faults may be set and lifted at any time and hold for connections that exist and those to come:
 *
 *   delayMs         every byte arrives this much later, in each direction; the order and the throughput stay
 *   bytesPerSecond  no more than this passes, over each connection in each direction
 *   isSilent        connections are taken and kept, and no byte passes, not even an end (half-open); what was held back
 *                   passes when the fault is lifted
 *   isShut          nobody listens: connecting is refused, and what was open is reset
 *
 * `reset` cuts what is open with a reset, once; new connections pass.
 */

import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface Faults {
  /** Milliseconds; default 0. */
  readonly delayMs?: number;
  /** Default: no limit. */
  readonly bytesPerSecond?: number;
  readonly isSilent?: boolean;
  readonly isShut?: boolean;
}

export interface FaultProxy {
  /** On the loopback. */
  readonly port: number;
  /** The same URL by way of the proxy. */
  urlOf(target: string): string;
  /** Replaces all faults; `{}` lifts them. */
  set(faults: Faults): Promise<void>;
  /** Resets every open connection; answers how many there were. */
  reset(): number;
  /** Connections that are open now. */
  readonly open: number;
  /** Connections taken since the proxy began. */
  readonly taken: number;
  /** Resets what is open and gives the port back. */
  close(): Promise<void>;
}

/** Bytes that wait in one direction before no more are read. */
const heldLimit = 1024 * 1024;
/** A limited direction passes this share of a second's bytes at a time. */
const slicesPerSecond = 50;

interface HeldBytes {
  readonly bytes: Buffer;
  readonly dueAtMs: number;
}

/** One direction of one connection. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #faults: () => Faults;
  #held: HeldBytes[] = [];
  #heldSize = 0;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;
  #freeAtMs = 0;

  constructor(from: Socket, to: Socket, faults: () => Faults) {
    this.#from = from;
    this.#to = to;
    this.#faults = faults;
    from.on('data', (bytes: Buffer) => this.#hold(bytes));
    from.on('end', () => {
      this.#isOver = true;
      this.move();
    });
    from.on('close', () => clearTimeout(this.#timer));
    to.on('drain', () => this.move());
  }

  #hold(bytes: Buffer): void {
    this.#held.push({ bytes, dueAtMs: performance.now() + (this.#faults().delayMs ?? 0) });
    this.#heldSize += bytes.length;
    if (this.#heldSize >= heldLimit) this.#from.pause();
    this.move();
  }

  /** Passes on what is due; looks again when more will be. */
  move(): void {
    clearTimeout(this.#timer);
    const { isSilent, bytesPerSecond } = this.#faults();
    if (isSilent || this.#to.destroyed) return;
    for (;;) {
      const [first] = this.#held;
      if (first === undefined) break;
      const waitMs = Math.max(first.dueAtMs, this.#freeAtMs) - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.move(), waitMs);
        return;
      }
      if (this.#to.writableNeedDrain) return;
      this.#pass(first, bytesPerSecond ?? Number.POSITIVE_INFINITY);
    }
    if (this.#isOver) this.#to.end();
  }

  #pass({ bytes, dueAtMs }: HeldBytes, bytesPerSecond: number): void {
    const size = Math.min(bytes.length, Math.max(1, Math.ceil(bytesPerSecond / slicesPerSecond)));
    this.#held.shift();
    if (size < bytes.length) this.#held.unshift({ bytes: bytes.subarray(size), dueAtMs });
    this.#heldSize -= size;
    this.#freeAtMs = performance.now() + (size / bytesPerSecond) * 1000;
    this.#to.write(bytes.subarray(0, size));
    if (this.#heldSize < heldLimit) this.#from.resume();
  }
}

class TcpFaultProxy implements FaultProxy {
  readonly #behind: { readonly host: string; readonly port: number };
  readonly #pairs = new Map<Socket, Socket>();
  readonly #pipes = new Map<Socket, readonly Pipe[]>();
  #faults: Faults = {};
  #listener: Server | null = null;
  #port = 0;
  #taken = 0;

  constructor(behind: { readonly host: string; readonly port: number }) {
    this.#behind = behind;
  }

  get port(): number {
    return this.#port;
  }

  urlOf(target: string): string {
    const url = new URL(target);
    url.hostname = '127.0.0.1';
    url.port = String(this.#port);
    return url.href;
  }

  get open(): number {
    return this.#pairs.size;
  }

  get taken(): number {
    return this.#taken;
  }

  async set(faults: Faults): Promise<void> {
    this.#faults = faults;
    if (faults.isShut === true) await this.#shut();
    else await this.listen();
    for (const pipes of this.#pipes.values()) for (const pipe of pipes) pipe.move();
  }

  reset(): number {
    const count = this.#pairs.size;
    for (const [client, server] of this.#pairs) {
      cut(client);
      cut(server);
    }
    return count;
  }

  close(): Promise<void> {
    return this.#shut();
  }

  async listen(): Promise<void> {
    if (this.#listener !== null) return;
    const listener = createServer({ allowHalfOpen: true }, (client) => this.#take(client));
    this.#listener = listener;
    listener.listen(this.#port, '127.0.0.1');
    await once(listener, 'listening');
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
    this.#port = address.port;
  }

  async #shut(): Promise<void> {
    const listener = this.#listener;
    if (listener === null) return;
    this.#listener = null;
    const closed = once(listener, 'close');
    listener.close();
    this.reset();
    await closed;
  }

  #take(client: Socket): void {
    this.#taken += 1;
    const server = connect({ ...this.#behind, allowHalfOpen: true });
    const faults = (): Faults => this.#faults;
    this.#pairs.set(client, server);
    this.#pipes.set(client, [new Pipe(client, server, faults), new Pipe(server, client, faults)]);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.setNoDelay(true);
      socket.on('error', () => cut(other));
      socket.on('close', () => {
        this.#pairs.delete(client);
        this.#pipes.delete(client);
        if (!other.writableEnded) other.destroy();
      });
    }
  }
}

/**
 * Resets a connection. One that has begun to end can't be reset any more: its handle would then never close, and a
 * process that has such a handle spins at its own end instead of ending (libuv refuses with EINVAL, Node waits on).
 */
function cut(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** Of what is asked by its URL in tests, where that names no port. */
const usualPorts: Readonly<Record<string, number>> = { 'redis:': 6379, 'postgres:': 5432, 'nats:': 4222 };

/**
 * A proxy on a free port of the loopback, without faults at first.
 * @param behind where the server is: its address, or a URL that names it
 */
export async function createFaultProxy(
  behind: string | { readonly host: string; readonly port: number },
): Promise<FaultProxy> {
  const proxy = new TcpFaultProxy(typeof behind === 'string' ? addressOf(behind) : behind);
  await proxy.listen();
  return proxy;
}

function addressOf(text: string): { readonly host: string; readonly port: number } {
  const { hostname, port, protocol } = new URL(text);
  return { host: hostname, port: Number(port) || (usualPorts[protocol] ?? 0) };
}
