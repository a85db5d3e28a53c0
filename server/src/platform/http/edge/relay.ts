import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type AppError, type Principal, toAppError } from '#kernel';
import { sendErrorEarly } from '../answers.ts';
import { readBody } from '../body.ts';
import type { HttpServerDeps } from '../server.ts';
import type { RelayExchange, RelayRoute } from '../types.ts';
import { finishWithError, logFault, observe } from './outcome.ts';

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/**
 * Puts a relay under its prefix. The first hook takes the response over and the framework goes no further, so it never
 * touches the body.
 */
export function addRelay(app: FastifyInstance, deps: HttpServerDeps, relay: RelayRoute): void {
  for (const url of [relay.prefix, `${relay.prefix}/*`]) {
    app.route({
      method: methods,
      url,
      exposeHeadRoute: false,
      config: { endpointId: relay.id },
      onRequest: (request, reply) => {
        reply.hijack();
        enter(deps, relay, request, reply);
      },
      handler: () => undefined,
    });
  }
}

function enter(deps: HttpServerDeps, relay: RelayRoute, request: FastifyRequest, reply: FastifyReply): void {
  const refuse = (error: unknown): void => finishWithError(deps, relay.id, request, reply, toAppError(error));
  const closed = deps.gate();
  if (closed) {
    refuse(closed);
    return;
  }
  if (relay.access === 'own') {
    hand(deps, relay, request, reply, null);
    return;
  }
  let found: Principal | Promise<Principal>;
  try {
    found = deps.authenticator.tenant(request.raw.headers.authorization, request.stoa.context.clientAddress);
  } catch (error) {
    refuse(error);
    return;
  }
  if (found instanceof Promise)
    found.then((principal) => hand(deps, relay, request, reply, principal), refuse);
  else hand(deps, relay, request, reply, found);
}

function hand(
  deps: HttpServerDeps,
  relay: RelayRoute,
  request: FastifyRequest,
  reply: FastifyReply,
  principal: Principal | null,
): void {
  request.stoa.principal = principal;
  const { raw: response } = reply;
  response.on('close', () => {
    request.stoa.body?.release();
    observe(deps, relay.id, request, reply);
  });
  const fail = (error: AppError): void => {
    if (error.code === 'internal_error') logFault(deps, request, error);
    sendErrorEarly(request.raw, response, error);
  };
  const exchange: RelayExchange = {
    request: request.raw,
    response,
    principal: principal?.kind === 'tenant' ? principal : null,
    context: request.stoa.context,
    fail,
    readBody: (holder) => readWhole(deps, request, holder),
  };
  const run = async (): Promise<void> => relay.handle(exchange);
  run().catch((error: unknown) => fail(toAppError(error)));
}

function readWhole(deps: HttpServerDeps, request: FastifyRequest, holder: string): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  readBody(request.raw, request.stoa.response, deps.budget, holder, (error, body) => {
    if (error) {
      reject(error);
      return;
    }
    request.stoa.body = body;
    resolve(body?.bytes ?? Buffer.alloc(0));
  });
  return promise;
}
