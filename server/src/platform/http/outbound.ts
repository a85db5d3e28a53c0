/**
 * The one client for calls to the outside, on undici.
 *
 * Problem: a chat may spend about 100 us of CPU in this process, and a naive client spends more than that by itself
 * (global fetch costs three to ten times undici's dispatch). Approach: one pool per origin, `dispatch` with a handler
 * object, no promise, stream, signal or timer per call; the gateway's coarse sweep holds the deadlines and cancels.
 *
 * Bounds: connections per origin, calls waiting for one, origins, the answer's head (64 KiB), the answer's body where the
 * caller says so. Order: a listener hears one head, data, and exactly one end, never inside `dispatch` or `cancel`, so a
 * caller may finish its own bookkeeping first.
 */
import type { LookupFunction } from 'node:net';
import { buildConnector, type Dispatcher, errors, Pool } from 'undici';
import type {
  OutboundClient,
  OutboundExchange,
  OutboundFault,
  OutboundFaultKind,
  OutboundHeaders,
  OutboundJsonAnswer,
  OutboundJsonRequest,
  OutboundListener,
  OutboundRequest,
  OutboundSettings,
} from './outbound-types.ts';

const MAX_HEAD_BYTES = 64 * 1024;
const DETAIL_CHARACTERS = 300;

/** What a connector tells of a connection: at most the look-up of its own that says which addresses are meant. */
export interface ConnectorOptions {
  readonly connectTimeoutMs: number;
  readonly lookup?: LookupFunction;
}

/**
 * Where every outgoing connection is made: nothing reaches the network around it. Calls to what the operator set take it
 * as it is; calls for tenants come with a look-up that answers with checked addresses only (`guarded/`).
 */
export function createConnector({ connectTimeoutMs, lookup }: ConnectorOptions): buildConnector.connector {
  return buildConnector({
    allowH2: false,
    timeout: connectTimeoutMs,
    keepAlive: true,
    noDelay: true,
    ...(lookup === undefined ? {} : { lookup }),
  });
}

/** Which pool a call takes a connection of, and how that pool connects. */
export interface PoolChoice {
  /** Calls share connections where it is the same. */
  readonly key: string;
  createConnector(): buildConnector.connector;
}

interface Origin {
  readonly pool: Pool;
  activeCalls: number;
  /** The number of the call that used it last; the smallest goes first. */
  lastUse: number;
}

function codeOf(error: Error): string | null {
  return 'code' in error && typeof error.code === 'string' ? error.code : null;
}

function faultKind(error: Error, hadHead: boolean): OutboundFaultKind {
  if (error instanceof errors.HTTPParserError) return hadHead && isEarlyEnd(error) ? 'cut' : 'unreadable';
  if (error instanceof errors.HeadersOverflowError) return 'unreadable';
  if (error instanceof errors.InvalidArgumentError || error instanceof errors.NotSupportedError)
    return 'invalid';
  if (error instanceof errors.ClientDestroyedError || error instanceof errors.ClientClosedError)
    return 'cancelled';
  return hadHead ? 'cut' : 'unreachable';
}

/** A chunked body whose connection ended: the parser says that the end came where more was due. */
function isEarlyEnd(error: Error): boolean {
  return codeOf(error) === 'HPE_INVALID_EOF_STATE';
}

/** One call: undici's handler and the caller's handle in one object, since each object more is paid per call. */
class Exchange implements OutboundExchange, Dispatcher.DispatchHandler {
  readonly #listener: OutboundListener;
  readonly #origin: Origin;
  readonly #maxBodyBytes: number;
  readonly #onEnded: () => void;
  #controller: Dispatcher.DispatchController | null = null;
  #bodyBytes = 0;
  #hadHead = false;
  #isEnded = false;
  /** True until `dispatch` returned: an end found before that is told in a microtask. */
  #isStarting = true;

  constructor(listener: OutboundListener, origin: Origin, maxBodyBytes: number, onEnded: () => void) {
    this.#listener = listener;
    this.#origin = origin;
    this.#maxBodyBytes = maxBodyBytes;
    this.#onEnded = onEnded;
  }

  started(): void {
    this.#isStarting = false;
  }

  cancel(): void {
    this.#fail({ kind: 'cancelled', code: null, detail: 'cancelled by the caller' }, true);
  }

  resume(): void {
    if (!this.#isEnded) this.#controller?.resume();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // A call cancelled while it waited for a connection must not be sent.
    if (this.#isEnded) controller.abort(new errors.RequestAbortedError());
    else this.#controller = controller;
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: OutboundHeaders,
  ): void {
    if (this.#isEnded || status < 200) return;
    this.#hadHead = true;
    this.#listener.onHead(status, headers);
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isEnded) return;
    this.#bodyBytes += chunk.length;
    if (this.#maxBodyBytes !== 0 && this.#bodyBytes > this.#maxBodyBytes) {
      const detail = `the body is over ${this.#maxBodyBytes} bytes`;
      this.#fail({ kind: 'too_large', code: null, detail }, false);
      return;
    }
    if (!this.#listener.onData(chunk)) controller.pause();
  }

  onResponseEnd(): void {
    if (!this.#end()) return;
    this.#listener.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    const fault: OutboundFault = {
      kind: faultKind(error, this.#hadHead),
      code: codeOf(error),
      detail: error.message.slice(0, DETAIL_CHARACTERS),
    };
    this.#fail(fault, this.#isStarting);
  }

  /** Ends the call without undici, which may have refused it or not yet heard of it. */
  fail(fault: OutboundFault): void {
    this.#fail(fault, true);
  }

  #end(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    this.#origin.activeCalls -= 1;
    this.#onEnded();
    return true;
  }

  #fail(fault: OutboundFault, isDeferred: boolean): void {
    if (!this.#end()) return;
    this.#controller?.abort(new errors.RequestAbortedError());
    if (isDeferred) queueMicrotask(() => this.#listener.onFault(fault));
    else this.#listener.onFault(fault);
  }
}

const noExchange: OutboundExchange = { cancel: () => undefined, resume: () => undefined };

/** The client with the choice of a pool, which only this folder has. */
export interface PooledClient extends OutboundClient {
  dispatchIn(pool: PoolChoice, request: OutboundRequest, listener: OutboundListener): OutboundExchange;
}

class UndiciOutboundClient implements PooledClient {
  readonly #settings: Required<OutboundSettings>;
  readonly #connector: buildConnector.connector;
  readonly #origins = new Map<string, Origin>();
  #uses = 0;
  #activeCalls = 0;
  #isClosed = false;
  readonly #onEnded = (): void => {
    this.#activeCalls -= 1;
  };

  constructor(settings: Required<OutboundSettings>) {
    this.#settings = settings;
    this.#connector = createConnector(settings);
  }

  get activeCalls(): number {
    return this.#activeCalls;
  }

  get origins(): number {
    return this.#origins.size;
  }

  dispatch(request: OutboundRequest, listener: OutboundListener): OutboundExchange {
    return this.#dispatch(this.#origin(request.origin, null), request, listener);
  }

  dispatchIn(pool: PoolChoice, request: OutboundRequest, listener: OutboundListener): OutboundExchange {
    return this.#dispatch(this.#origin(request.origin, pool), request, listener);
  }

  #dispatch(
    origin: Origin | OutboundFault,
    request: OutboundRequest,
    listener: OutboundListener,
  ): OutboundExchange {
    if (!('pool' in origin)) {
      queueMicrotask(() => listener.onFault(origin));
      return noExchange;
    }
    origin.activeCalls += 1;
    this.#activeCalls += 1;
    origin.lastUse = this.#uses;
    this.#uses += 1;
    const exchange = new Exchange(listener, origin, request.maxBodyBytes, this.#onEnded);
    const { connectionsPerOrigin, waitingPerOrigin } = this.#settings;
    if (origin.activeCalls > connectionsPerOrigin + waitingPerOrigin) {
      exchange.fail({
        kind: 'overloaded',
        code: null,
        detail: `${waitingPerOrigin} calls wait for ${request.origin}`,
      });
      return exchange;
    }
    const { method, path, body } = request;
    // undici tells even a request that it refuses to the handler, so nothing is thrown here.
    origin.pool.dispatch(
      { method, path, headers: [...request.headers, 'accept-encoding', 'identity'], body },
      exchange,
    );
    exchange.started();
    return exchange;
  }

  requestJson(request: OutboundJsonRequest): Promise<OutboundJsonAnswer> {
    return requestJson(this, request);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const pools = [...this.#origins.values()].map((origin) => origin.pool.destroy());
    this.#origins.clear();
    await Promise.all(pools);
  }

  /** The pool of an origin (or the one chosen), or why there can be none. */
  #origin(name: string, pool: PoolChoice | null): Origin | OutboundFault {
    const key = pool === null ? name : pool.key;
    const known = this.#origins.get(key);
    if (known !== undefined) return known;
    if (this.#isClosed) return { kind: 'cancelled', code: null, detail: 'the outbound client is closed' };
    if (this.#origins.size >= this.#settings.maxOrigins && !this.#closeIdleOrigin()) {
      return { kind: 'overloaded', code: null, detail: `${this.#settings.maxOrigins} origins are in use` };
    }
    try {
      const connector = pool === null ? this.#connector : pool.createConnector();
      const origin = { pool: this.#createPool(name, connector), activeCalls: 0, lastUse: this.#uses };
      this.#origins.set(key, origin);
      return origin;
    } catch (error) {
      return {
        kind: 'invalid',
        code: null,
        detail: `${name} is no origin: ${String(error)}`.slice(0, DETAIL_CHARACTERS),
      };
    }
  }

  #createPool(origin: string, connect: buildConnector.connector): Pool {
    return new Pool(origin, {
      connections: this.#settings.connectionsPerOrigin,
      pipelining: 1,
      connect,
      keepAliveTimeout: this.#settings.keepAliveMs,
      keepAliveMaxTimeout: this.#settings.keepAliveMs,
      maxHeaderSize: MAX_HEAD_BYTES,
      // The caller's deadlines hold; a timer of undici's per call would be paid for nothing.
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  /** Lets go of the idle origin that was not used for the longest time. False where every one is in use. */
  #closeIdleOrigin(): boolean {
    let oldest: { name: string; origin: Origin } | null = null;
    for (const [name, origin] of this.#origins) {
      if (origin.activeCalls === 0 && (oldest === null || origin.lastUse < oldest.origin.lastUse))
        oldest = { name, origin };
    }
    if (oldest === null) return false;
    this.#origins.delete(oldest.name);
    oldest.origin.pool.destroy().catch(() => undefined);
    return true;
  }
}

function parseJson(chunks: readonly Buffer[]): unknown {
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    return undefined;
  }
}

function requestJson(client: OutboundClient, request: OutboundJsonRequest): Promise<OutboundJsonAnswer> {
  const { promise, resolve } = Promise.withResolvers<OutboundJsonAnswer>();
  if (!URL.canParse(request.url)) {
    resolve({ outcome: 'failed', fault: { kind: 'invalid', code: null, detail: 'the address is no URL' } });
    return promise;
  }
  const url = new URL(request.url);
  const chunks: Buffer[] = [];
  let head: { status: number; headers: OutboundHeaders } = { status: 0, headers: {} };
  const { method, headers, body, maxBodyBytes } = request;
  const exchange = client.dispatch(
    { method, origin: url.origin, path: `${url.pathname}${url.search}`, headers, body, maxBodyBytes },
    {
      onHead: (status, answerHeaders) => {
        head = { status, headers: answerHeaders };
      },
      onData: (chunk) => chunks.push(chunk) > 0,
      onEnd: () => resolve({ outcome: 'answered', ...head, json: parseJson(chunks) }),
      onFault: (fault) => resolve({ outcome: 'failed', fault }),
    },
  );
  const cancel = (): void => exchange.cancel();
  const timer = setTimeout(() => {
    const detail = `no whole answer within ${request.timeoutMs} ms`;
    resolve({ outcome: 'failed', fault: { kind: 'timeout', code: null, detail } });
    exchange.cancel();
  }, request.timeoutMs);
  if (request.signal.aborted) cancel();
  else request.signal.addEventListener('abort', cancel, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    request.signal.removeEventListener('abort', cancel);
  });
}

/**
 * The client of one process. Defaults: 256 connections and 1,024 waiting calls per origin, 256 origins, idle connections
 * kept 60 s, 5 s to connect.
 */
export function createOutboundClient(settings: OutboundSettings = {}): OutboundClient {
  return createPooledClient(settings);
}

export function createPooledClient(settings: OutboundSettings): PooledClient {
  return new UndiciOutboundClient({
    connectionsPerOrigin: 256,
    waitingPerOrigin: 1024,
    maxOrigins: 256,
    keepAliveMs: 60_000,
    connectTimeoutMs: 5_000,
    ...settings,
  });
}
