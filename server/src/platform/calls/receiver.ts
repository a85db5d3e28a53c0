import { type CallMethod, internalPrefix } from '@stoa/contracts';
import { AppError, type Clock, type Logger, parseJsonBody, toAppError } from '#kernel';
import type { RelayExchange, RelayRoute } from '#http';
import { runBounded } from './call-context.ts';
import { methodOf } from './services.ts';
import type { ClusterVerifier } from './signature.ts';
import type { PlainService, ServedApi } from './types.ts';
import { readContext, readEnvelope, readInput, writeError, writeOutput } from './wire.ts';

export interface ReceiverDeps {
  readonly verifier: ClusterVerifier;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Served {
  readonly place: string;
  readonly method: CallMethod;
  readonly run: PlainService[string];
}

/**
 * The receiving side: `POST /internal/v1/<service>/<method>` for the services of this process. Order of work: the signature
 * of the head, the method, the body and its digest, the envelope, the input, the call. What goes wrong before the call is an
 * error of the way and has the common error body; what the method ends in has the form of `CallAnswer`.
 * @throws TypeError where a service lacks a method, RangeError where two have one name
 */
export function createReceiver(deps: ReceiverDeps, services: readonly ServedApi[]): RelayRoute {
  const served = new Map<string, Served>();
  for (const { api, service } of services) {
    for (const [name, method] of Object.entries(api.methods)) {
      const path = `${internalPrefix}/${api.service}/${name}`;
      if (served.has(path)) throw new RangeError(`${path} is served twice`);
      served.set(path, {
        place: `${api.service}.${name}`,
        method,
        run: methodOf(service, api.service, name),
      });
    }
  }
  return {
    id: 'internal_call',
    prefix: internalPrefix,
    access: 'own',
    handle: (exchange) => receive(deps, served, exchange),
  };
}

async function receive(
  deps: ReceiverDeps,
  served: ReadonlyMap<string, Served>,
  exchange: RelayExchange,
): Promise<void> {
  const { request, response } = exchange;
  const path = request.url ?? '';
  const fits = deps.verifier.checkCall(request.method ?? '', path, request.headers.authorization);
  const target = served.get(path);
  if (target === undefined) throw new AppError('not_found', 'This process serves no such method.');
  if (request.method !== 'POST') throw new AppError('method_not_allowed', 'Calls are POST.');
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  const body = await exchange.readBody('cluster');
  if (!fits(body))
    throw new AppError('invalid_cluster_signature', 'The body is not the one that was signed.');
  const envelope = readEnvelope(parseJsonBody(body));
  const input = readInput(target.method, envelope);
  const call = readContext(envelope, deps.clock, gone.signal);
  const answer = await answerOf(deps, target, () =>
    runBounded(deps.clock, target.place, target.method.timeoutMs, call, (bounded) =>
      target.run(input, bounded),
    ),
  );
  response.writeHead(answer.status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(answer.content),
  });
  response.end(answer.content);
}

async function answerOf(
  { logger }: ReceiverDeps,
  { place, method }: Served,
  run: () => Promise<unknown>,
): Promise<{ readonly status: number; readonly content: string }> {
  try {
    return { status: 200, content: writeOutput(method, await run()) };
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.code === 'internal_error') {
      logger.error(
        { place, err: error.cause ?? error },
        'a call from another process failed for a reason of ours',
      );
    }
    return { status: error.status, content: writeError(error) };
  }
}
