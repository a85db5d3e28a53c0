/**
 * Calls to URLs that tenants gave.
 *
 * Problem: whoever may name a URL may name the inside of our network (metadata of the cloud, databases, this very
 * process), by an odd spelling, by a name that resolves there, by one that resolves there the second time only, or by a
 * redirect. Approach: the text is read strictly (`target.ts`); each new connection looks its name up once, every address
 * of the answer must be public (`addresses.ts`), and the socket is opened to those very addresses, since it is Node's own
 * look-up that answers with them; TLS and the host header keep the name. A redirect begins from the start.
 *
 * Bounds: connections per tenant and origin (16), calls that wait there (64), calls at once over all (1,024), one
 * tenant's share of those (a quarter), and for each call its time, its redirects and the bytes of its answer. Connections
 * are never shared between tenants, and are kept 10 s, so that a name that has moved is looked up again.
 */
import { isIP, type LookupFunction } from 'node:net';
import type { Counter, MetricRegistry } from '#telemetry';
import { httpMetrics } from '../metrics.ts';
import { createConnector, createPooledClient, type PoolChoice, type PooledClient } from '../outbound.ts';
import type { OutboundFault } from '../outbound-types.ts';
import { isPublicAddress } from './addresses.ts';
import { type AllowList, emptyAllowList } from './allow-list.ts';
import { exchangeOnce, type OneAnswer } from './exchange-once.ts';
import { guardedFetch } from './guarded-fetch.ts';
import type {
  GuardedAnswer,
  GuardedClient,
  GuardedLimits,
  GuardedRequest,
  GuardRefusal,
} from './guarded-types.ts';
import { followingRequest, isRedirect, type PlannedRequest } from './redirects.ts';
import { createResolve, type Resolve } from './resolve.ts';
import { readTarget, type Target, type TargetReading } from './target.ts';

export interface GuardedDeps {
  readonly metrics: MetricRegistry;
  /** How names become addresses; by default the DNS servers of this machine. */
  readonly resolve?: Resolve;
  /** What the operator lets pass for one tenant; asked for each call, from memory. By default nothing. */
  allowOf?(tenantId: string): AllowList;
}

export interface GuardedSettings {
  /** What passes for every tenant; default nothing. */
  readonly allow?: AllowList;
  /** Whether plain http is called where no allow-list names the host; default true. */
  readonly isHttpAllowed?: boolean;
  /** Calls of all tenants at once; default 1024, and a quarter of it for one tenant. */
  readonly maxCalls?: number;
  /** Milliseconds to look a name up and connect; default 5_000. */
  readonly connectTimeoutMs?: number;
}

const defaults = {
  timeoutMs: 10_000,
  maxBodyBytes: 1024 * 1024,
  whenTooLarge: 'fail',
  maxRedirects: 3,
} as const;
const maxRedirects = 3;
const refusedHeaders: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** How the look-up of a connection says that an address is refused; undici hands its code and message through. */
const refusedCode = 'STOA_ADDRESS_REFUSED';

class AddressRefused extends Error {
  readonly code = refusedCode;
}

/** Everything that one process calls for tenants. */
export function createGuardedClient(deps: GuardedDeps, settings: GuardedSettings = {}): GuardedClient {
  return new PinningClient(deps, settings);
}

class PinningClient implements GuardedClient {
  readonly #resolve: Resolve;
  readonly #allowOf: (tenantId: string) => AllowList;
  readonly #allow: AllowList;
  readonly #isHttpAllowed: boolean;
  readonly #maxCalls: number;
  readonly #connectTimeoutMs: number;
  readonly #client: PooledClient;
  readonly #calls: Counter;
  readonly #running = new Map<string, number>();

  constructor(deps: GuardedDeps, settings: GuardedSettings) {
    this.#resolve = deps.resolve ?? createResolve();
    this.#allowOf = (tenantId) => deps.allowOf?.(tenantId) ?? emptyAllowList;
    this.#allow = settings.allow ?? emptyAllowList;
    this.#isHttpAllowed = settings.isHttpAllowed ?? true;
    this.#maxCalls = settings.maxCalls ?? 1024;
    this.#connectTimeoutMs = settings.connectTimeoutMs ?? 5_000;
    this.#calls = deps.metrics.counter(httpMetrics.guardedCalls);
    this.#client = createPooledClient({
      connectionsPerOrigin: 16,
      waitingPerOrigin: 64,
      // As many as there are calls: where a call is admitted there is room, or a pool that nobody uses to close.
      maxOrigins: this.#maxCalls,
      keepAliveMs: 10_000,
      connectTimeoutMs: this.#connectTimeoutMs,
    });
  }

  check(url: string, tenantId: string): GuardRefusal | null {
    const reading = this.#read(url, tenantId);
    return 'refusal' in reading ? reading.refusal : null;
  }

  async call(request: GuardedRequest): Promise<GuardedAnswer> {
    const answer = await this.#admitted(request);
    this.#calls.add(1, { outcome: answer.outcome, reason: reasonOf(answer) });
    return answer;
  }

  fetchFor(tenantId: string, limits: GuardedLimits = {}): ReturnType<GuardedClient['fetchFor']> {
    return guardedFetch((request) => this.call({ ...request, tenantId, limits }));
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  #read(url: string, tenantId: string): TargetReading {
    return readTarget(url, {
      isHttpAllowed: this.#isHttpAllowed,
      allow: [this.#allow, this.#allowOf(tenantId)],
    });
  }

  async #admitted(request: GuardedRequest): Promise<GuardedAnswer> {
    const { tenantId, headers = [] } = request;
    const badHeader = headers.find(
      (name, index) => index % 2 === 0 && refusedHeaders.has(name.toLowerCase()),
    );
    if (badHeader !== undefined || headers.length % 2 === 1)
      return failed('invalid', `the header ${badHeader ?? 'without a value'} is not the caller's to set`);
    const running = this.#running.get(tenantId) ?? 0;
    if (this.#client.activeCalls >= this.#maxCalls || running >= this.#maxCalls / 4)
      return failed('overloaded', 'too many calls for tenants run');
    this.#running.set(tenantId, running + 1);
    try {
      return await this.#follow(request);
    } finally {
      const left = (this.#running.get(tenantId) ?? 1) - 1;
      if (left === 0) this.#running.delete(tenantId);
      else this.#running.set(tenantId, left);
    }
  }

  async #follow(request: GuardedRequest): Promise<GuardedAnswer> {
    const limits = { ...defaults, ...request.limits };
    const deadlineMs = performance.now() + limits.timeoutMs;
    const redirects = Math.min(limits.maxRedirects, maxRedirects);
    let planned: PlannedRequest = {
      method: request.method,
      url: request.url,
      headers: request.headers ?? [],
      body: request.body ?? null,
    };
    for (let hop = 0; ; hop += 1) {
      const reading = this.#read(planned.url, request.tenantId);
      if ('refusal' in reading) return { outcome: 'refused', refusal: reading.refusal };
      const { target } = reading;
      const answer = await this.#once(request, planned, target, deadlineMs - performance.now());
      if (answer.outcome !== 'answered') return refusedOrFailed(answer.fault);
      if (redirects === 0 || !isRedirect(answer.status, answer.headers))
        return { ...answer, url: target.url.href };
      if (hop === redirects) return refused('redirect', `more than ${redirects} redirects`);
      const next = followingRequest(planned, target.url, answer);
      if ('refusal' in next) return { outcome: 'refused', refusal: next.refusal };
      planned = next.request;
    }
  }

  #once(
    { tenantId, limits, signal }: GuardedRequest,
    planned: PlannedRequest,
    target: Target,
    timeoutMs: number,
  ): Promise<OneAnswer> {
    const { url } = target;
    const pool = this.#poolOf(tenantId, target);
    const request = {
      method: planned.method,
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      headers: planned.headers,
      body: planned.body,
      maxBodyBytes: 0,
    };
    const { maxBodyBytes, whenTooLarge } = { ...defaults, ...limits };
    return exchangeOnce((listener) => this.#client.dispatchIn(pool, request, listener), {
      timeoutMs,
      maxBodyBytes,
      whenTooLarge,
      signal,
    });
  }

  #poolOf(tenantId: string, { url, host, port, address }: Target): PoolChoice {
    return {
      key: `${tenantId} ${url.origin}`,
      createConnector: () => {
        const connect = createConnector({
          connectTimeoutMs: this.#connectTimeoutMs,
          lookup: this.#lookupFor(tenantId, port),
        });
        return (options, callback) => {
          // An address in the URL is never looked up: it was judged with the text, and is what must be connected to.
          if (isIP(options.hostname) === 0 || options.hostname === address) connect(options, callback);
          else callback(new AddressRefused(`${options.hostname} is not ${host}`), null);
        };
      },
    };
  }

  /** Answers a connection's look-up with the addresses of the name, all of them checked, or with why there are none. */
  #lookupFor(tenantId: string, port: number): LookupFunction {
    return (hostname, options, callback) => {
      this.#checkedAddresses(tenantId, hostname, port).then(
        (addresses) => {
          const all = addresses.map((address) => ({ address, family: isIP(address) }));
          const [first] = all;
          if (options.all === true) callback(null, all);
          else callback(null, first?.address ?? '', first?.family ?? 4);
        },
        (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), []),
      );
    };
  }

  async #checkedAddresses(tenantId: string, hostname: string, port: number): Promise<readonly string[]> {
    const host = hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
    const lists = [this.#allow, this.#allowOf(tenantId)];
    const isNamed = lists.some((list) => list.hasHost(host, port));
    const addresses = await this.#resolve(host, isNamed);
    if (addresses.length === 0) throw new Error(`${host} has no address`);
    const isFine = (address: string): boolean =>
      isIP(address) !== 0 &&
      (isNamed || isPublicAddress(address) || lists.some((list) => list.hasAddress(address, port)));
    // One bad address is enough: which of several is connected to is not for the tenant to try.
    if (!addresses.every(isFine))
      throw new AddressRefused(`${host} resolves to an address that is not public`);
    return addresses;
  }
}

function reasonOf(answer: GuardedAnswer): string {
  if (answer.outcome === 'answered') return 'none';
  return answer.outcome === 'refused' ? answer.refusal.reason : answer.fault.kind;
}

function failed(kind: OutboundFault['kind'], detail: string): GuardedAnswer {
  return { outcome: 'failed', fault: { kind, code: null, detail } };
}

function refused(reason: GuardRefusal['reason'], detail: string): GuardedAnswer {
  return { outcome: 'refused', refusal: { reason, detail } };
}

function refusedOrFailed(fault: Extract<OneAnswer, { outcome: 'failed' }>['fault']): GuardedAnswer {
  if (fault.code === refusedCode) return refused('special_address', fault.detail);
  return { outcome: 'failed', fault };
}
