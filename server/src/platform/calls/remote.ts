import { type CallMethod, internalPrefix, type ServiceApi } from '@stoa/contracts';
import { AppError, type Clock, type Logger, newUuid } from '#kernel';
import type { OutboundClient, OutboundJsonAnswer } from '#http';
import { callerGone, runBounded, tooLate } from './call-context.ts';
import type { Destination, Destinations } from './destinations.ts';
import { eachMethod } from './services.ts';
import type { ClusterSigner } from './signature.ts';
import type { CallContext, PlainService, ServiceOf } from './types.ts';
import { readAnswer, writeCall } from './wire.ts';

export interface RemoteDeps {
  readonly outbound: OutboundClient;
  /** Null where there is no cluster secret, and so nowhere to call. */
  readonly signer: ClusterSigner | null;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Of one answer; a service hands out pages, not tables. */
const maximumAnswerBytes = 32 * 1024 * 1024;

/** Nothing was sent where one of these came before the head of an answer. */
const neverSent = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Whether a call that ended so cannot have reached the other side. */
export function wasNeverSent(code: string | null): boolean {
  return code !== null && neverSent.has(code);
}

/**
 * A service of another process. One call is one signed POST. What the method throws comes back as it was thrown; a process
 * that is away is `role_unavailable`, one that is too slow `deadline_exceeded`, and anything else on the way
 * `internal_error`, with its cause for the log.
 *
 * A call whose connection fails is sent once more, to another process where there is one, if it surely was not sent or the
 * method is idempotent; the second carries the same idempotency key.
 */
export function remoteService<Api extends ServiceApi>(
  api: Api,
  destinations: Destinations,
  deps: RemoteDeps,
): ServiceOf<Api>;
export function remoteService(api: ServiceApi, destinations: Destinations, deps: RemoteDeps): PlainService {
  return eachMethod(api, (name, method) => {
    const target: Target = {
      place: `${api.service}.${name}`,
      path: `${internalPrefix}/${api.service}/${name}`,
      method,
      destinations,
    };
    return (input, call) =>
      runBounded(deps.clock, target.place, method.timeoutMs, call, async (bounded) => {
        const needsKey = method.isIdempotent && call.idempotencyKey === null;
        const keyed = needsKey ? { ...bounded, idempotencyKey: newUuid() } : bounded;
        return send(deps, target, keyed, input);
      });
  });
}

interface Target {
  readonly place: string;
  readonly path: string;
  readonly method: CallMethod;
  readonly destinations: Destinations;
}

async function send(deps: RemoteDeps, target: Target, call: CallContext, input: unknown): Promise<unknown> {
  const tried = new Set<string>();
  for (let attempt = 1; ; attempt++) {
    const destination = takeNext(target, tried);
    if (destination === null) throw target.destinations.away();
    tried.add(destination.origin);
    const answer = await post(deps, target, destination, call, input);
    if (answer.outcome === 'answered') return read(deps, target, destination, answer);
    const { kind, code } = answer.fault;
    settle(destination, kind);
    if (kind === 'cancelled') throw callerGone();
    if (kind === 'timeout') throw tooLate(target.place);
    const cause = new Error(
      `${target.place} at ${destination.origin}: ${kind} ${code ?? answer.fault.detail}`,
    );
    if (kind !== 'unreachable' && kind !== 'cut' && kind !== 'overloaded') throw internal(cause);
    const mayRepeat = target.method.isIdempotent || wasNeverSent(code);
    if (!mayRepeat || attempt === 2) throw target.destinations.away(cause);
  }
}

/** Another process first; the same one again where it is the only one. */
function takeNext({ destinations }: Target, tried: ReadonlySet<string>): Destination | null {
  return destinations.take(tried) ?? (tried.size === 0 ? null : destinations.take(new Set()));
}

/** What an unanswered call says of the process. A caller that leaves says nothing, nor does a full pool here. */
function settle(destination: Destination, kind: string): void {
  if (kind === 'unreachable' || kind === 'cut' || kind === 'timeout' || kind === 'unreadable')
    destination.fail();
  else destination.forget();
}

async function post(
  { outbound, signer, clock }: RemoteDeps,
  { path, method }: Target,
  destination: Destination,
  call: CallContext,
  input: unknown,
): Promise<OutboundJsonAnswer> {
  try {
    const remainingMs = Math.max(1, call.deadlineAtMs - clock.monotonic());
    const body = Buffer.from(writeCall(method, call, input, remainingMs));
    const headers = ['content-type', 'application/json'];
    if (signer !== null) headers.push('authorization', signer.signCall('POST', path, body));
    if (call.traceparent !== null) headers.push('traceparent', call.traceparent);
    return await outbound.requestJson({
      method: 'POST',
      url: `${destination.origin}${path}`,
      headers,
      body,
      timeoutMs: Math.ceil(remainingMs),
      maxBodyBytes: maximumAnswerBytes,
      signal: call.signal,
    });
  } catch (error) {
    destination.forget();
    throw error;
  }
}

function read(
  { logger }: RemoteDeps,
  { place, method, destinations }: Target,
  destination: Destination,
  answer: Extract<OutboundJsonAnswer, { outcome: 'answered' }>,
): unknown {
  destination.succeed();
  const found = readAnswer(method, answer.json);
  if (found !== null) return found.output;
  const cause = new Error(
    `${place} at ${destination.origin}: status ${answer.status} ${codeIn(answer.json)}`,
  );
  if (answer.status === 503) {
    destination.rest();
    throw destinations.away(cause);
  }
  logger.error({ err: cause }, 'a call between processes was refused on its way');
  throw internal(cause);
}

/** The code of an error body of ours, for the log. */
function codeIn(json: unknown): string {
  if (typeof json !== 'object' || json === null || !('error' in json)) return '';
  const { error } = json;
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

function internal(cause: unknown): AppError {
  return new AppError('internal_error', 'Something went wrong on our side.', { cause });
}
