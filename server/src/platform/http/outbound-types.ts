import type { Readable } from 'node:stream';

/**
 * The port to the world outside: every call that Stoa makes over HTTP goes through it. Callbacks rather than promises
 * and streams, since on the path of a chat those two cost more than the call's own bookkeeping (design, section 5).
 */
export interface OutboundRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
  /** Scheme, host and port, as `new URL(...).origin` gives them. */
  readonly origin: string;
  /** Begins with `/`; with its query. */
  readonly path: string;
  /** Names in lower case and values in turn. `accept-encoding: identity` is added; hop-by-hop headers are refused. */
  readonly headers: readonly string[];
  /** A stream is read as the connection takes it, not before there is one, and is destroyed when the call ends. */
  readonly body: Buffer | Readable | null;
  /** A longer answer ends as `too_large`. 0 means no bound: only for streams, which deadlines bound. */
  readonly maxBodyBytes: number;
}

/** Response headers, names in lower case; a header that came several times is an array. */
export type OutboundHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/**
 * unreachable: no answer's head came (name not found, refused, reset, TLS, connect deadline of 5 s).
 * cut: the connection ended after the head, before the body's end.
 * unreadable: what came is not HTTP, or its head is over 64 KiB.
 * too_large: the body is over `maxBodyBytes`.
 * overloaded: too many calls wait for a connection to that origin, or too many origins are in use.
 * invalid: the request cannot be sent as it is (a header with a line break): a fault of the configuration.
 * cancelled: `cancel()` was called, or the client was closed.
 */
export type OutboundFaultKind =
  | 'unreachable'
  | 'cut'
  | 'unreadable'
  | 'too_large'
  | 'overloaded'
  | 'invalid'
  | 'cancelled';

export interface OutboundFault {
  readonly kind: OutboundFaultKind;
  /** The system's or the client's code (`ECONNREFUSED`, `UND_ERR_SOCKET`), where there is one. For the log. */
  readonly code: string | null;
  /** For the log; may name hosts and ports. */
  readonly detail: string;
}

/** Hears of one call, in order: onHead once, onData..., then exactly one of onEnd and onFault. Never inside `dispatch`. */
export interface OutboundListener {
  onHead(status: number, headers: OutboundHeaders): void;
  /** Returning false asks for a pause; up to one socket buffer (64 KiB) may still come. */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  onFault(fault: OutboundFault): void;
}

/** A running call. Both may be called at any time and any number of times, from inside the callbacks too. */
export interface OutboundExchange {
  /** Closes the connection at once. The listener gets `cancelled` in a microtask, unless it was told an end already. */
  cancel(): void;
  resume(): void;
}

export interface OutboundJsonRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  /** As in OutboundRequest. */
  readonly headers: readonly string[];
  readonly body: Buffer | null;
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  readonly signal: AbortSignal;
}

/**
 * `answered`: the body was read whole and is JSON, whatever the status. `json` is undefined where it is not JSON.
 * `failed`: no whole answer came; `timeout` where the deadline passed.
 */
export type OutboundJsonAnswer =
  | {
      readonly outcome: 'answered';
      readonly status: number;
      readonly headers: OutboundHeaders;
      readonly json: unknown;
    }
  | {
      readonly outcome: 'failed';
      readonly fault:
        | OutboundFault
        | { readonly kind: 'timeout'; readonly code: null; readonly detail: string };
    };

export interface OutboundClient {
  /**
   * Sends one request. No redirect is followed, nothing is decompressed, and there is no deadline but the one for
   * connecting: whoever calls cancels in time. Never throws.
   */
  dispatch(request: OutboundRequest, listener: OutboundListener): OutboundExchange;
  /** One small JSON answer, for lists and health; not for the path of a chat. Never rejects. */
  requestJson(request: OutboundJsonRequest): Promise<OutboundJsonAnswer>;
  /** Calls that have not ended. */
  readonly activeCalls: number;
  /** Origins with a pool. */
  readonly origins: number;
  /** Ends what still runs as `cancelled` and closes every connection. May be called twice. */
  close(): Promise<void>;
}

/** Every field has a default; see `createOutboundClient`. */
export interface OutboundSettings {
  /** Connections per origin, 1 to 4096; default 256. */
  readonly connectionsPerOrigin?: number;
  /** Calls that may wait for one of them, per origin; default 1024. What is over ends as `overloaded`. */
  readonly waitingPerOrigin?: number;
  /** Origins with a pool at once; default 256. The longest unused idle one goes first. */
  readonly maxOrigins?: number;
  /** Milliseconds that an idle connection is kept; default 60_000. A server's own hint shortens it. */
  readonly keepAliveMs?: number;
  /** Milliseconds to connect, TLS included; default 5_000. */
  readonly connectTimeoutMs?: number;
}
