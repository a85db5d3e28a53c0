/**
 * One call of a provider over HTTP, whatever its protocol: what an answer's head says, error statuses and their bodies,
 * the one end. A protocol adds what it does with the bytes of a good answer.
 *
 * States: waiting for the head -> answer (2xx of the right type) or refusal (the body of an error status is read, at most
 * 64 KiB and 5 s) -> ended. The sink hears of an end exactly once: everything that comes after `#isEnded` is dropped.
 */
import type {
  OutboundClient,
  OutboundExchange,
  OutboundFault,
  OutboundHeaders,
  OutboundListener,
  OutboundRequest,
} from '#http';
import type { Clock } from '#kernel';
import {
  contentTypeOf,
  faultOfOutbound,
  faultOfStatus,
  headerOf,
  providerFault,
  providerRequestIdOf,
} from './fault.ts';
import type { AnswerSink, ModelCall, ModelExchange, ProviderConnection, ProviderFault } from './types.ts';

const MAX_REFUSAL_BYTES = 64 * 1024;
/** A provider that sends an error's head and then stalls must not hold a client until the deadline of an answer. */
const REFUSAL_DEADLINE_MS = 5_000;
/** The cap on an answer in one piece. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** Headers that belong to the connection or to this client; one set by configuration is dropped. */
const OWN_HEADERS = new Set([
  'accept',
  'accept-encoding',
  'connection',
  'content-length',
  'content-type',
  'expect',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'traceparent',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** A connection's parts that every call of it shares; computed once per connection object. */
export interface PreparedConnection {
  readonly origin: string;
  /** Of the base URL, without a trailing slash. */
  readonly basePath: string;
  /** With its `?`, or empty. */
  readonly query: string;
  /** Name, value, name, value: the configured headers and the protocol's own. */
  readonly headers: readonly string[];
}

/** The parts of a connection, or null where its base URL is none of http or https. */
export function prepareConnection(
  connection: ProviderConnection,
  ownHeaders: readonly string[],
): PreparedConnection | null {
  if (!URL.canParse(connection.baseUrl)) return null;
  const url = new URL(connection.baseUrl);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return null;
  const headers = [...ownHeaders];
  const own = new Set(ownHeaders.filter((_, index) => index % 2 === 0));
  for (const [name, value] of Object.entries(connection.headers)) {
    const lower = name.toLowerCase();
    if (!OWN_HEADERS.has(lower) && !own.has(lower)) headers.push(lower, value);
  }
  return { origin: url.origin, basePath: url.pathname.replace(/\/+$/, ''), query: url.search, headers };
}

function isJson(contentType: string): boolean {
  return (
    contentType === 'application/json' ||
    (contentType.startsWith('application/') && contentType.endsWith('+json'))
  );
}

export interface HttpCallPorts {
  readonly outbound: OutboundClient;
  readonly clock: Clock;
  /** Milliseconds for the body of an error status; what was read by then is judged. Default 5,000. */
  readonly refusalDeadlineMs?: number;
}

/** The base of a protocol's call. A subclass handles the bytes of a good answer and may end the call by `fail`. */
export abstract class HttpCall implements OutboundListener, ModelExchange {
  protected readonly call: ModelCall;
  protected readonly sink: AnswerSink;
  readonly #ports: HttpCallPorts;
  #exchange: OutboundExchange | null = null;
  #isEnded = false;
  #hasBytes = false;
  #refusal: { status: number; headers: OutboundHeaders; chunks: Buffer[]; bytes: number } | null = null;
  #refusalTimer: NodeJS.Timeout | null = null;
  #providerRequestId: string | null = null;
  #status = 0;

  constructor(ports: HttpCallPorts, call: ModelCall, sink: AnswerSink) {
    this.#ports = ports;
    this.call = call;
    this.sink = sink;
  }

  /** Bytes of a good answer. Returns false to ask for a pause. */
  protected abstract answerData(chunk: Buffer): boolean;
  /** The good answer is complete. Must end in `finish` or `fail`. */
  protected abstract answerEnd(): void;
  /** Where the provider's status says nothing, its body may: the protocol's last word on a refusal. */
  protected refusalFault(fault: ProviderFault, _body: string): ProviderFault {
    return fault;
  }

  protected get providerRequestId(): string | null {
    return this.#providerRequestId;
  }

  protected get isEnded(): boolean {
    return this.#isEnded;
  }

  start(request: OutboundRequest): void {
    this.#exchange = this.#ports.outbound.dispatch(request, this);
  }

  /** Ends a call that was never sent, in a microtask. */
  refuse(fault: ProviderFault): void {
    queueMicrotask(() => this.fail(fault));
  }

  cancel(): void {
    if (this.#isEnded) return;
    if (this.#exchange !== null) this.#exchange.cancel();
    else this.refuse(providerFault('cancelled', 'cancelled by the caller'));
  }

  resume(): void {
    if (!this.#isEnded) this.#exchange?.resume();
  }

  onHead(status: number, headers: OutboundHeaders): void {
    if (this.#isEnded) return;
    this.#providerRequestId = providerRequestIdOf(headers);
    this.#status = status;
    if (status < 200 || status > 299) {
      this.#refusal = { status, headers, chunks: [], bytes: 0 };
      this.#refusalTimer = setTimeout(
        () => this.#endRefusal(),
        this.#ports.refusalDeadlineMs ?? REFUSAL_DEADLINE_MS,
      );
      return;
    }
    const contentType = contentTypeOf(headers);
    const fault = this.#unfitHead(status, headers, contentType);
    if (fault === null) this.sink.onHead({ status, contentType, providerRequestId: this.#providerRequestId });
    else this.fail(fault);
  }

  onData(chunk: Buffer): boolean {
    if (this.#isEnded) return true;
    if (this.#refusal === null) {
      this.#hasBytes = true;
      return this.answerData(chunk);
    }
    this.#refusal.chunks.push(chunk);
    this.#refusal.bytes += chunk.length;
    if (this.#refusal.bytes >= MAX_REFUSAL_BYTES) this.#endRefusal();
    return true;
  }

  onEnd(): void {
    if (this.#isEnded) return;
    if (this.#refusal !== null) this.#endRefusal();
    else if (this.#hasBytes) this.answerEnd();
    else this.fail(this.#emptyAnswer());
  }

  onFault(fault: OutboundFault): void {
    if (this.#isEnded) return;
    // An error's status is known even where its body was cut.
    if (this.#refusal !== null && fault.kind !== 'cancelled') this.#endRefusal();
    else this.fail(faultOfOutbound(fault, this.#providerRequestId));
  }

  protected finish(): void {
    if (this.#end()) this.sink.onEnd();
  }

  /** Tells the sink of the fault and closes the connection, unless the call has ended. */
  protected fail(fault: ProviderFault): void {
    if (!this.#end()) return;
    this.#exchange?.cancel();
    this.sink.onFault(fault);
  }

  #end(): boolean {
    if (this.#isEnded) return false;
    this.#isEnded = true;
    if (this.#refusalTimer !== null) clearTimeout(this.#refusalTimer);
    return true;
  }

  #unfitHead(status: number, headers: OutboundHeaders, contentType: string): ProviderFault | null {
    const fields = { status, providerRequestId: this.#providerRequestId };
    if (status === 204 || headerOf(headers, 'content-length') === '0') {
      return this.#emptyAnswer();
    }
    const encoding = headerOf(headers, 'content-encoding') ?? 'identity';
    if (encoding.toLowerCase() !== 'identity') {
      return providerFault('unreadable', `content-encoding ${encoding}, which was not asked for`, fields);
    }
    const isFit = this.call.stream ? contentType === 'text/event-stream' : isJson(contentType);
    if (isFit) return null;
    return providerFault(
      'unreadable',
      `content-type ${contentType} where ${this.#expected()} was asked for`,
      fields,
    );
  }

  #emptyAnswer(): ProviderFault {
    return providerFault('empty', `HTTP ${this.#status} without a body`, {
      status: this.#status,
      providerRequestId: this.#providerRequestId,
    });
  }

  #expected(): string {
    return this.call.stream ? 'text/event-stream' : 'application/json';
  }

  #endRefusal(): void {
    const refusal = this.#refusal;
    if (refusal === null || this.#isEnded) return;
    const { status, headers, chunks } = refusal;
    const body = Buffer.concat(chunks).toString('utf8', 0, MAX_REFUSAL_BYTES);
    const { provider: connection } = this.call.target;
    const fault = faultOfStatus({ status, headers, body, connection, nowMs: this.#ports.clock.now() });
    this.fail(this.refusalFault(fault, body));
  }
}
