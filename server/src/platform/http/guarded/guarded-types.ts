import type { OutboundFault, OutboundHeaders, OutboundRequest } from '../outbound-types.ts';

/**
 * Calls to URLs that a tenant gave: what is called is checked, and everything about the answer is bounded. For what the
 * operator set (providers, other processes) there is `OutboundClient`, which checks nothing.
 */
export interface GuardedClient {
  /** One call with its redirects. Never rejects. */
  call(request: GuardedRequest): Promise<GuardedAnswer>;
  /**
   * Reads a URL as `call` would, without looking a name up: to refuse it where the tenant gives it. Null where it passes;
   * that its name resolves to what may be called shows only in the call.
   */
  check(url: string, tenantId: string): GuardRefusal | null;
  /** The hook for libraries that fetch by themselves: as the global, over `call`. Redirects are followed as there. */
  fetchFor(
    tenantId: string,
    limits?: GuardedLimits,
  ): (url: string, init?: GuardedFetchInit) => Promise<Response>;
  /** Ends what still runs and closes every connection. May be called twice. */
  close(): Promise<void>;
}

export interface GuardedRequest {
  /** Whose URL it is: connections are never shared between tenants, and its allow-list holds. */
  readonly tenantId: string;
  readonly method: OutboundRequest['method'];
  readonly url: string;
  /** Names in lower case and values in turn. Those of the connection (host, content-length) are refused. */
  readonly headers?: readonly string[];
  readonly body?: Buffer | null;
  readonly limits?: GuardedLimits;
  readonly signal?: AbortSignal;
}

export interface GuardedLimits {
  /** Milliseconds for all of it: name, connections, redirects, the body; default 10_000. */
  readonly timeoutMs?: number;
  /** Default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** What becomes of a longer body: a fault (`too_large`), or the answer with what came until then. Default `fail`. */
  readonly whenTooLarge?: 'fail' | 'cut';
  /** 0 to 3; default 3. With 0 a redirect is an answer like any other. */
  readonly maxRedirects?: number;
}

/**
 * bad_url: no URL of the plain form. scheme: neither https nor (where it is allowed) http. credentials: a user name in the
 * URL. port: none of the open ones. inner_name: a name that means something inside a network only. special_address: the
 * host is, or resolves to, an address that is not public. redirect: more redirects than allowed, one that is no URL, or
 * one from https to http.
 */
export type GuardRefusalReason =
  | 'bad_url'
  | 'scheme'
  | 'credentials'
  | 'port'
  | 'inner_name'
  | 'special_address'
  | 'redirect';

export interface GuardRefusal {
  readonly reason: GuardRefusalReason;
  /** May be shown to the tenant: it names nothing but what the tenant gave. */
  readonly detail: string;
}

export interface GuardedAnswered {
  readonly outcome: 'answered';
  readonly status: number;
  readonly headers: OutboundHeaders;
  readonly body: Buffer;
  /** True where the body was longer than asked for (`whenTooLarge: 'cut'`). */
  readonly isCut: boolean;
  /** The URL that answered, after redirects. */
  readonly url: string;
}

export type GuardedFault =
  | OutboundFault
  | { readonly kind: 'timeout'; readonly code: null; readonly detail: string };

export type GuardedAnswer =
  | GuardedAnswered
  | { readonly outcome: 'refused'; readonly refusal: GuardRefusal }
  | { readonly outcome: 'failed'; readonly fault: GuardedFault };

export interface GuardedFetchInit {
  readonly method?: string;
  readonly headers?: Headers | Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | null;
  readonly signal?: AbortSignal | null;
}
