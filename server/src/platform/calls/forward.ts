import { AppError, type Logger } from '#kernel';
import type {
  OutboundClient,
  OutboundExchange,
  OutboundFault,
  OutboundHeaders,
  OutboundListener,
  OutboundRequest,
  RelayExchange,
  RelayRoute,
} from '#http';
import type { Destination, Destinations } from './destinations.ts';
import { ForwardBody, hasBody } from './forward-body.ts';
import { answerHeaders, requestHeaders } from './forward-headers.ts';
import { wasNeverSent } from './remote.ts';
import { type ClusterSigner, forwardedHeader } from './signature.ts';

/**
 * The gateway's way to a role in another process: the request goes on as it came, and the answer comes back as it is, both a
 * chunk at a time and no faster than the slower side reads. Nothing is held but what the sockets hold.
 *
 * One request: a process of the role is chosen and the head is sent; `waiting` until the head of the answer is here; then
 * `answering` until its end. While it waits, a process that cannot be reached is replaced by the next one, as long as nothing
 * of the request was sent (or the method is safe) and nothing of its body was read. Once the caller has the head nothing can
 * be repeated: what breaks then cuts the caller's connection, so that it is not taken for the end.
 *
 * Time: `timeoutMs` without a byte in either direction ends it. Whoever is waited for is at fault: a caller that does not
 * send its body gets `request_timeout`; a role that does not answer, `deadline_exceeded`, and its breaker hears of it. A
 * caller that leaves cancels the call to the role at once.
 */
export interface ForwardDeps {
  readonly outbound: OutboundClient;
  /** Tells the role which id and address the request has; null where there is no cluster, and so nowhere to forward to. */
  readonly signer: ClusterSigner | null;
  readonly logger: Logger;
}

export interface ForwardSettings {
  /** Such as `/v1/fixture`. */
  readonly prefix: string;
  /** The longest silence. */
  readonly timeoutMs: number;
}

/** Everything under a prefix, for a role elsewhere. The edge checks the key first; the role checks it again, with its scopes. */
export function createForward(
  deps: ForwardDeps,
  destinations: Destinations,
  { prefix, timeoutMs }: ForwardSettings,
): RelayRoute {
  return {
    id: `forward_${destinations.role}`,
    prefix,
    access: 'tenant',
    handle: (exchange) => new Forwarding(deps, destinations, timeoutMs, exchange).begin(),
  };
}

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

function methodOf(text: string | undefined): OutboundRequest['method'] {
  switch (text) {
    case 'GET':
    case 'HEAD':
    case 'POST':
    case 'PUT':
    case 'PATCH':
    case 'DELETE':
    case 'OPTIONS':
      return text;
    default:
      throw new AppError('method_not_allowed', 'The path does not take this method.');
  }
}

class Forwarding implements OutboundListener {
  readonly #deps: ForwardDeps;
  readonly #destinations: Destinations;
  readonly #relay: RelayExchange;
  readonly #tried = new Set<string>();
  readonly #silence: NodeJS.Timeout;
  #phase: 'waiting' | 'answering' | 'over' = 'waiting';
  #destination: Destination | null = null;
  #exchange: OutboundExchange | null = null;
  #body: ForwardBody | null = null;

  constructor(deps: ForwardDeps, destinations: Destinations, timeoutMs: number, relay: RelayExchange) {
    this.#deps = deps;
    this.#destinations = destinations;
    this.#relay = relay;
    this.#silence = setTimeout(() => this.#fallSilent(), timeoutMs);
  }

  begin(): void {
    const { response } = this.#relay;
    response.on('drain', () => this.#exchange?.resume());
    response.once('close', () => this.#leave());
    try {
      this.#send();
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  /** Goes to the next process that takes calls. */
  #send(cause?: unknown): void {
    const { request, response, context } = this.#relay;
    const method = methodOf(request.method);
    const path = request.url ?? '';
    if (!path.startsWith('/')) throw new AppError('bad_request', 'The path is not a valid URL path.');
    const destination = this.#destinations.take(this.#tried);
    if (destination === null) {
      this.#refuse(this.#destinations.away(cause));
      return;
    }
    this.#tried.add(destination.origin);
    this.#destination = destination;
    this.#body = hasBody(request)
      ? new ForwardBody(request, {
          onBegin: () => {
            if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue();
          },
          onProgress: () => this.#silence.refresh(),
        })
      : null;
    const headers = requestHeaders(request.rawHeaders);
    headers.push('x-request-id', context.publicRequestId);
    if (context.clientRequestId !== null) headers.push('x-client-request-id', context.clientRequestId);
    const { requestId, clientAddress } = context;
    const claim = this.#deps.signer?.signForwarded({ method, path, requestId, clientAddress });
    if (claim !== undefined) headers.push(forwardedHeader, claim);
    this.#exchange = this.#deps.outbound.dispatch(
      { method, origin: destination.origin, path, headers, body: this.#body, maxBodyBytes: 0 },
      this,
    );
  }

  onHead(status: number, headers: OutboundHeaders): void {
    if (this.#phase !== 'waiting') return;
    this.#silence.refresh();
    this.#destination?.succeed();
    if (status === 503) this.#destination?.rest();
    this.#phase = 'answering';
    try {
      this.#relay.response.writeHead(status, answerHeaders(headers));
    } catch (cause) {
      // A header that Node cannot write.
      this.#exchange?.cancel();
      this.#refuse(new AppError('internal_error', 'Something went wrong on our side.', { cause }));
    }
  }

  onData(chunk: Buffer): boolean {
    if (this.#phase !== 'answering') return true;
    this.#silence.refresh();
    return this.#relay.response.write(chunk);
  }

  onEnd(): void {
    if (this.#phase !== 'answering') return;
    this.#finish();
    this.#relay.response.end();
    // An answer may come before the body was sent whole; what still comes is read away.
    this.#relay.request.resume();
  }

  onFault(fault: OutboundFault): void {
    if (this.#phase === 'over') return;
    const cause = new Error(`${this.#place()}: ${fault.kind} ${fault.code ?? fault.detail}`);
    if (this.#phase === 'answering') {
      this.#cut(cause);
      return;
    }
    if (fault.kind === 'overloaded' || fault.kind === 'invalid' || fault.kind === 'cancelled') {
      this.#destination?.forget();
      this.#refuse(faultOfCall(fault, cause));
      return;
    }
    this.#destination?.fail();
    const isUnsent = wasNeverSent(fault.code) || safeMethods.has(this.#relay.request.method ?? '');
    if (isUnsent && this.#body?.isTouched !== true) {
      this.#silence.refresh();
      this.#send(cause);
    } else this.#refuse(this.#destinations.away(cause));
  }

  /** Nothing came in either direction for too long. */
  #fallSilent(): void {
    const isCallersTurn = this.#body?.isTouched === true && !this.#body.isWhole;
    const cause = new Error(`${this.#place()}: silent for too long`);
    if (this.#phase === 'answering') {
      this.#cut(cause);
    } else if (isCallersTurn) {
      this.#destination?.forget();
      this.#refuse(new AppError('request_timeout', 'The request took too long to arrive.'));
    } else {
      this.#destination?.fail();
      const { role } = this.#destinations;
      const message = `The part of the platform named ${role} did not answer in time.`;
      this.#refuse(new AppError('deadline_exceeded', message, { retryAfterMs: 1_000, cause }));
    }
    this.#exchange?.cancel();
  }

  /** The connection to the caller is closed, whoever closed it. */
  #leave(): void {
    if (this.#phase === 'waiting') this.#destination?.forget();
    if (this.#phase !== 'over') {
      this.#finish();
      this.#exchange?.cancel();
    }
  }

  #refuse(error: AppError): void {
    this.#finish();
    const { response } = this.#relay;
    if (!response.headersSent) response.setHeader('x-stoa-role', this.#destinations.role);
    if (error.cause !== undefined) {
      this.#deps.logger.warn(
        { request_id: this.#relay.context.publicRequestId, role: this.#destinations.role, err: error.cause },
        'a request could not be forwarded',
      );
    }
    this.#relay.fail(error);
  }

  #cut(cause: Error): void {
    this.#finish();
    this.#deps.logger.warn(
      { request_id: this.#relay.context.publicRequestId, role: this.#destinations.role, err: cause },
      'an answer was cut off on its way',
    );
    this.#relay.response.destroy();
  }

  #finish(): void {
    this.#phase = 'over';
    clearTimeout(this.#silence);
  }

  #place(): string {
    return `${this.#destinations.role} at ${this.#destination?.origin ?? 'no process'}`;
  }
}

/** Faults that say nothing of the role. */
function faultOfCall(fault: OutboundFault, cause: Error): AppError {
  if (fault.kind === 'invalid')
    return new AppError('bad_request', 'The request cannot be passed on.', { cause });
  const message = 'Too many requests wait for this part of the platform.';
  return new AppError('overloaded', message, { retryAfterMs: 1_000, cause });
}
