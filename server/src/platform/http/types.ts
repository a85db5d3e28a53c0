import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Endpoint, RouteClass } from '@stoa/contracts';
import type { OperatorHandle, TenantHandle } from '#db';
import type { AppError, OperatorPrincipal, Principal, RequestId, TenantPrincipal } from '#kernel';

/** What every handler knows of its request besides the parsed input. */
export interface RequestContext {
  readonly requestId: RequestId;
  /** `req_...`, as sent in `x-request-id`. */
  readonly publicRequestId: string;
  /**
   * The caller's own `x-request-id` (or else `x-client-request-id`), cut to 128 printable characters, or null. The answer
   * carries it as `x-client-request-id`.
   */
  readonly clientRequestId: string | null;
  /** The caller's `traceparent`, unchecked, or null. */
  readonly traceparent: string | null;
  /**
   * Who sent the request: the peer of the connection or, behind a trusted proxy, whom that names. Plain text of an IPv4 or
   * IPv6 address (no mapped one, no zone); empty where the connection was gone already.
   */
  readonly clientAddress: string;
  /** The caller's `User-Agent` as it came, or null. */
  readonly userAgent: string | null;
  readonly ifMatch: string | null;
  readonly idempotencyKey: string | null;
  /** Set by what handles the request and has a trace of it, so that the line of its outcome names it. */
  traceId?: string;
}

export interface RouteReply {
  readonly status: number;
  /** JSON value, or undefined for an empty body. Bigints are refused: turn money into decimal text first. */
  readonly body?: unknown;
  /** Sent instead of `body` where an answer is no JSON (metrics). */
  readonly text?: { readonly contentType: string; readonly content: string };
  /** Sent instead of `body` where an answer may be longer than memory should hold: each part is taken when there is room. */
  readonly parts?: { readonly contentType: string; readonly content: AsyncIterable<string> };
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer that was kept together with the change that it tells of. Only a `KeepAnswer` makes one. */
export interface KeptReply {
  readonly kept: RouteReply;
}

/**
 * Keeps the answer of a creating POST for its repeats, in the very transaction of the change: both commit, or neither.
 * So whoever repeats a request whose answer never arrived gets that answer, and nothing is changed again. Without an
 * `Idempotency-Key` it writes nothing. Throws `idempotency_in_progress` where another process runs the request meanwhile;
 * the transaction has to fail with it.
 */
export type KeepAnswer = (tx: TenantHandle | OperatorHandle, reply: RouteReply) => Promise<KeptReply>;

/** What came in, not checked yet. */
export interface RawInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/**
 * A route whose input and output are JSON values. Made by `tenantRoute`, `operatorRoute`, `openRoute` or, for a creating
 * POST, `creatingTenantRoute` and `creatingOperatorRoute`, which check the input with the endpoint's schemas and give the
 * handler exact types. Throwing an AppError answers with its error body.
 */
export interface JsonRoute {
  readonly kind: 'json';
  readonly endpoint: Endpoint;
  /** @param keep what keeps a creating POST's answer; where absent (no `Idempotency-Key`) nothing is kept */
  handle(
    input: RawInput,
    principal: Principal | null,
    context: RequestContext,
    keep?: KeepAnswer,
  ): Promise<RouteReply>;
}

/**
 * A route that owns the response from its first byte: chat and embeddings. The edge has authenticated the caller,
 * checked the permission and read the body within its limits; headers `x-request-id` is already set on the response.
 */
export interface RawExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly body: Buffer;
  readonly principal: TenantPrincipal;
  readonly context: RequestContext;
  /** Answers with the error body; does nothing but end the socket where the head went out already. */
  fail(error: AppError): void;
  /** Gives the body's bytes back to the budget over all bodies in flight; the edge also does it when the response closes. */
  releaseBody(): void;
}

export interface RawRoute {
  readonly kind: 'raw';
  readonly endpoint: Endpoint;
  handle(exchange: RawExchange): void;
}

export type Route = JsonRoute | RawRoute;

/** What the gateway says of a request that it forwards to another process of the cluster. */
export interface Forwarded {
  readonly requestId: RequestId;
  /** As the gateway saw it. */
  readonly clientAddress: string;
}

/**
 * A path and everything below it, whatever the method, whose handler owns the request from its head on and the response
 * from its first byte: the body has not been read. `tenant` has the edge check the key; `own` leaves it to the handler.
 */
export interface RelayRoute {
  /** For metrics and the log. */
  readonly id: string;
  /** Such as `/v1/fixture`; without a slash at its end. */
  readonly prefix: string;
  readonly access: 'tenant' | 'own';
  /** What it throws or rejects with is answered. */
  handle(exchange: RelayExchange): void | Promise<void>;
}

export interface RelayExchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly principal: TenantPrincipal | null;
  readonly context: RequestContext;
  /** Answers with the error body and reads the rest of the request away; cuts the response where its head went out already. */
  fail(error: AppError): void;
  /** Reads the body whole within the listener's bounds; they have it back when the response closes. */
  readBody(holder: string): Promise<Buffer>;
}

/**
 * Turns an Authorization header into a principal. Synchronous where the key is cached, so that the path of a chat makes
 * no promise for it. Throws or rejects with `invalid_api_key`, `key_revoked`, `key_expired`, `tenant_suspended` or
 * `database_unavailable`.
 */
export interface Authenticator {
  /** @param clientAddress as in `RequestContext`; null where this process asks by itself, of which no allow-list says anything */
  tenant(
    authorization: string | undefined,
    clientAddress: string | null,
  ): TenantPrincipal | Promise<TenantPrincipal>;
  operator(
    authorization: string | undefined,
    clientAddress: string | null,
  ): OperatorPrincipal | Promise<OperatorPrincipal>;
}

/** The fields `RateLimit-Policy` and `RateLimit` of an answer. */
export interface RateLimitFields {
  readonly policy: string;
  readonly state: string;
}

export interface RequestVerdict {
  /** Null where the request may go on. */
  readonly refusal: AppError | null;
  readonly fields: RateLimitFields | null;
}

/** The rate limits of requests that the edge checks: all but those of raw routes. Control/quotas implements it. */
export interface RequestLimiter {
  /** Null where no limit applies. */
  check(
    principal: TenantPrincipal,
    routeClass: RouteClass,
    clientAddress: string,
  ): RequestVerdict | null | Promise<RequestVerdict | null>;
}

/** Remembers the answers to creating POSTs that carried `Idempotency-Key`, for 24 hours. Control/access implements it. */
export interface IdempotencyStore {
  /**
   * Runs `fn` once for (principal, endpoint, key); a repeat with the same body gets the first answer, with another body
   * `idempotency_conflict`, while the first still runs `idempotency_in_progress`. `fn` keeps its answer in the transaction
   * of its change; an `fn` that throws may be sent again, one that answers without having kept it is `internal_error`.
   */
  once(
    scope: { principal: Principal; endpointId: string; key: string; bodyHash: string },
    fn: (keep: KeepAnswer) => Promise<RouteReply>,
  ): Promise<RouteReply>;
}
