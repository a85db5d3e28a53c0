import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Endpoint, isOperatorPermission } from '@stoa/contracts';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { AppError, type Logger, parseJsonBody, type Principal, requirePermission, toAppError } from '#kernel';
import type { Counter, Histogram } from '#telemetry';
import { sendError, sendSocketError } from './answers.ts';
import { type BodyBudget, readBody } from './body.ts';
import { type ClientAddressOf, createClientAddress } from './edge/client-address.ts';
import { prepare } from './edge/incoming.ts';
import { finishWithError, logFault, noteDenied, observe } from './edge/outcome.ts';
import { sendParts } from './edge/parts.ts';
import { checkLimits, limitedClassOf } from './edge/rate-limit.ts';
import { addRelay } from './edge/relay.ts';
import { shedRequests } from './edge/shed-requests.ts';
import type { LoadShedding } from './edge/shedding.ts';
import { connectionError, frameworkError, hostFault } from './faults.ts';
import type {
  Authenticator,
  Forwarded,
  IdempotencyStore,
  JsonRoute,
  KeepAnswer,
  RawRoute,
  RelayRoute,
  RequestLimiter,
  RequestContext,
  Route,
} from './types.ts';

/**
 * One listener. Order of work for a request: an id, the credential, the permission, the rate limits, the body within its
 * bounds, the handler. So a stranger costs no memory, and a body is never read for somebody who may not send it. Chat and
 * embeddings take the response over as raw routes; everything else answers JSON through here.
 */
export interface HttpServerDeps {
  readonly authenticator: Authenticator;
  readonly idempotency: IdempotencyStore;
  readonly budget: BodyBudget;
  /** The rate limits of tenants' requests; by default there are none. */
  readonly limiter?: RequestLimiter;
  /** Refuses tenants' calls while there are more than the process can answer; by default all are taken. */
  readonly shedding?: { readonly load: LoadShedding; readonly refusals: Counter };
  /** Told of each answer `permission_denied` to somebody known. Must not throw; by default nobody is. */
  readonly onDenied?: (denied: Denied) => void;
  /** Why this process takes no calls yet, or null; the routes without a credential (health) are always open. */
  readonly gate: () => AppError | null;
  readonly logger: Logger;
  /** One line per outcome; null where the log level would drop it anyway. */
  readonly accessLog: ((fields: AccessLine) => void) | null;
  readonly metrics: { readonly requests: Counter; readonly seconds: Histogram };
  /**
   * Of a listener inside the cluster: what the gateway signed on a request that it forwards, or null where it did not.
   * Such a listener takes no other requests, but for those of routes without a credential and of relays.
   */
  readonly readForwarded?: (request: IncomingMessage) => Forwarded | null;
}

export interface Denied {
  readonly principal: Principal;
  readonly endpointId: string;
  /** The one that the endpoint needs; null where it is known by its path alone. */
  readonly permission: string | null;
  readonly context: RequestContext;
}

export interface AccessLine {
  readonly request_id: string;
  /** `ten_...` */
  readonly tenant_id: string | null;
  readonly key_id: string | null;
  readonly method: string;
  readonly endpoint: string;
  readonly status: number;
  readonly duration_ms: number;
  /** Of requests that are traced to a provider. */
  readonly trace_id?: string;
}

export interface HttpServerSettings {
  readonly routes: readonly Route[];
  /** Whole subtrees whose handlers own request and response; default none. */
  readonly relays?: readonly RelayRoute[];
  /** Milliseconds for the head of a request; default of the caller. */
  readonly headersTimeoutMs: number;
  /** Milliseconds for a whole request to arrive. */
  readonly requestTimeoutMs: number;
  /** Milliseconds that an idle connection stays open. */
  readonly keepAliveTimeoutMs: number;
  readonly maximumHeaderBytes: number;
  /** Addresses and CIDR blocks of proxies whose `X-Forwarded-For` is believed; default none. */
  readonly trustedProxies?: readonly string[];
}

export interface HttpServer {
  /** Starts to listen; returns the address bound (port 0 is resolved). */
  listen(address: { host: string; port: number }): Promise<AddressInfo>;
  /** From now on each answer closes its connection, so that clients move on; new connections are still taken. */
  beginDrain(): void;
  /** Stops accepting, lets running requests finish, each answer closing its connection. Resolves when all are gone. */
  drain(): Promise<void>;
  /** Cuts what is left. */
  destroy(): void;
}

export function createHttpServer(deps: HttpServerDeps, settings: HttpServerSettings): HttpServer {
  const state = { isDraining: false };
  const clientAddressOf = createClientAddress(settings.trustedProxies ?? []);
  const app = createApp(deps, settings, clientAddressOf);
  app.server.on('connection', (socket) => socket.setNoDelay(true));
  // Node drops what is over its count of headers in silence; here their bytes are bounded.
  app.server.maxHeadersCount = 0;
  // Without these, Node asks for a body before anybody knows whether it is wanted, and answers 417 without a body.
  app.server.on('checkContinue', (request, response) => app.server.emit('request', request, response));
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  if (deps.shedding) shedRequests(app.server, deps.shedding.load, deps.shedding.refusals);
  app.addHook('onRequest', (request, reply, done) => {
    prepare(request, reply, deps.readForwarded?.(request.raw) ?? null, clientAddressOf);
    if (state.isDraining) reply.raw.setHeader('connection', 'close');
    done(hostFault(request.raw));
  });
  for (const route of settings.routes) addRoute(app, deps, route);
  for (const relay of settings.relays ?? []) addRelay(app, deps, relay);
  addMethodGuards(app, deps, settings.routes);
  return {
    async listen({ host, port }) {
      await app.listen({ host, port });
      const address = app.server.address();
      if (address === null || typeof address === 'string')
        throw new Error('the server is not bound to a TCP port');
      return address;
    },
    beginDrain() {
      state.isDraining = true;
    },
    async drain() {
      state.isDraining = true;
      await app.close();
    },
    destroy: () => app.server.closeAllConnections(),
  };
}

/** Fastify with our errors, our body reader and nothing else of its own on. */
function createApp(
  deps: HttpServerDeps,
  settings: HttpServerSettings,
  clientAddressOf: ClientAddressOf,
): FastifyInstance {
  const app = Fastify({
    logger: false,
    exposeHeadRoutes: true,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    requestTimeout: settings.requestTimeoutMs,
    keepAliveTimeout: settings.keepAliveTimeoutMs,
    bodyLimit: deps.budget.maximumBytes,
    routerOptions: { maxParamLength: 1_024 },
    http: {
      maxHeaderSize: settings.maximumHeaderBytes,
      // Of two Authorization headers Node would take the first, and a proxy before us perhaps the other.
      joinDuplicateHeaders: true,
      requireHostHeader: false,
      headersTimeout: settings.headersTimeoutMs,
      connectionsCheckingInterval: 1_000,
    },
    clientErrorHandler: (error, socket) => sendSocketError(socket, connectionError(error)),
    frameworkErrors: (error, request, reply) => {
      prepare(request, reply, null, clientAddressOf);
      finishWithError(deps, 'unrouted', request, reply, frameworkError(error));
    },
  });
  app.decorateRequest('stoa');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', (request, payload, done) =>
    takeBody(deps, request, payload, done),
  );
  app.addContentTypeParser('*', (_request, _payload, done) => {
    done(new AppError('unsupported_media_type', 'Send the body with Content-Type: application/json.'));
  });
  app.setErrorHandler((error, request, reply) => {
    finishWithError(
      deps,
      request.routeOptions.config.endpointId ?? 'unrouted',
      request,
      reply,
      frameworkError(error),
    );
  });
  app.setNotFoundHandler((request, reply) => {
    finishWithError(
      deps,
      'unrouted',
      request,
      reply,
      new AppError('not_found', 'There is nothing at this path.'),
    );
  });
  return app;
}

function addRoute(app: FastifyInstance, deps: HttpServerDeps, route: Route): void {
  const { endpoint } = route;
  const { limiter } = deps;
  const limitedClass = limitedClassOf(route);
  app.route({
    method: endpoint.method,
    url: fastifyPath(endpoint.path),
    config: {
      endpointId: endpoint.id,
      ...(endpoint.access === 'anyone' ? {} : { permission: endpoint.access.permission }),
    },
    onRequest: (request, _reply, done) => {
      if (limiter === undefined || limitedClass === null) authenticate(deps, endpoint, request, done);
      else
        authenticate(deps, endpoint, request, (error) => {
          if (error) done(error);
          else checkLimits(limiter, limitedClass, request.stoa, done);
        });
    },
    handler: (request, reply) => {
      reply.hijack();
      if (route.kind === 'raw') handleRaw(deps, route, request, reply);
      return route.kind === 'json' ? handleJson(deps, route, request, reply) : undefined;
    },
  });
}

/** `{id}` is one segment; `{id*}` is the rest of the path, for model ids with slashes. */
function fastifyPath(path: string): string {
  return path.replace(/\{(\w+)\*\}/g, '*').replace(/\{(\w+)\}/g, ':$1');
}

/** A known path with another method is 405, so that a wrong verb is not mistaken for a wrong address. */
function addMethodGuards(app: FastifyInstance, deps: HttpServerDeps, routes: readonly Route[]): void {
  const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;
  const known = new Map<string, Set<string>>();
  for (const { endpoint } of routes) {
    const path = fastifyPath(endpoint.path);
    const allowed = known.get(path) ?? new Set();
    known.set(path, allowed.add(endpoint.method));
    if (endpoint.method === 'GET') allowed.add('HEAD');
  }
  for (const [url, allowed] of known) {
    app.route({
      method: methods.filter((method) => !allowed.has(method)),
      url,
      onRequest: (request, reply) => {
        reply.hijack();
        reply.raw.setHeader('allow', [...allowed].join(', '));
        finishWithError(
          deps,
          'unrouted',
          request,
          reply,
          new AppError('method_not_allowed', `This path takes ${[...allowed].join(', ')}.`),
        );
      },
      handler: () => undefined,
    });
  }
}

function authenticate(
  deps: HttpServerDeps,
  endpoint: Endpoint,
  request: FastifyRequest,
  done: (error?: Error) => void,
): void {
  const { access } = endpoint;
  if (access === 'anyone') {
    done();
    return;
  }
  const closed = deps.gate();
  if (closed) {
    done(closed);
    return;
  }
  if (deps.readForwarded && !request.stoa.isForwarded) {
    done(notForwarded());
    return;
  }
  const header = request.raw.headers.authorization;
  let found: Principal | Promise<Principal>;
  try {
    const { clientAddress } = request.stoa.context;
    found = isOperatorPermission(access.permission)
      ? deps.authenticator.operator(header, clientAddress)
      : deps.authenticator.tenant(header, clientAddress);
  } catch (error) {
    done(toAppError(error));
    return;
  }
  if (found instanceof Promise)
    found.then(
      (principal) => admit(endpoint, request, principal, done),
      (error: unknown) => done(toAppError(error)),
    );
  else admit(endpoint, request, found, done);
}

function notForwarded(): AppError {
  return new AppError('invalid_cluster_signature', 'This listener takes requests of the gateway only.');
}

function admit(
  endpoint: Endpoint,
  request: FastifyRequest,
  principal: Principal,
  done: (error?: Error) => void,
): void {
  request.stoa.principal = principal;
  if (endpoint.access !== 'anyone') {
    try {
      requirePermission(principal, endpoint.access.permission);
    } catch (error) {
      done(toAppError(error));
      return;
    }
  }
  done();
}

function takeBody(
  deps: HttpServerDeps,
  request: FastifyRequest,
  payload: IncomingMessage,
  done: (error: Error | null, body?: unknown) => void,
): void {
  const { response, principal } = request.stoa;
  const holder = principal?.kind === 'tenant' ? principal.tenantId : 'operator';
  readBody(payload, response, deps.budget, holder, (error, body) => {
    if (error) {
      done(error);
      return;
    }
    request.stoa.body = body;
    done(null, undefined);
  });
}

function handleRaw(
  deps: HttpServerDeps,
  route: RawRoute,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const { principal, context, body } = request.stoa;
  const response: ServerResponse = reply.raw;
  if (principal?.kind !== 'tenant') {
    finishWithError(
      deps,
      route.endpoint.id,
      request,
      reply,
      new AppError('invalid_api_key', 'The API key is not valid.'),
    );
    return;
  }
  const releaseBody = (): void => body?.release();
  response.on('close', () => {
    releaseBody();
    observe(deps, route.endpoint.id, request, reply);
  });
  try {
    route.handle({
      request: request.raw,
      response,
      body: body?.bytes ?? Buffer.alloc(0),
      principal,
      context,
      releaseBody,
      fail: (error) => {
        if (error.code === 'internal_error') logFault(deps, request, error);
        noteDenied(deps, route.endpoint.id, request, error);
        sendError(response, error);
      },
    });
  } catch (error) {
    const fault = toAppError(error);
    if (fault.code === 'internal_error') logFault(deps, request, fault);
    noteDenied(deps, route.endpoint.id, request, fault);
    sendError(response, fault);
  }
}

async function handleJson(
  deps: HttpServerDeps,
  route: JsonRoute,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  try {
    const { principal, context, body } = request.stoa;
    const bytes = body?.bytes;
    const input = {
      params: namedParams(route.endpoint, request.params),
      query: request.query,
      body:
        bytes === undefined || (bytes.length === 0 && !route.endpoint.body)
          ? undefined
          : parseJsonBody(bytes),
    };
    const run = (keep?: KeepAnswer) => route.handle(input, principal, context, keep);
    const key = context.idempotencyKey;
    const answer =
      route.endpoint.idempotent === 'key' && key !== null && principal !== null
        ? await deps.idempotency.once(
            {
              principal,
              endpointId: route.endpoint.id,
              key: checkedIdempotencyKey(key),
              bodyHash: hashOf(request.raw.url, bytes),
            },
            run,
          )
        : await run();
    if (answer.parts !== undefined) {
      await sendParts(reply.raw, answer, answer.parts);
      observe(deps, route.endpoint.id, request, reply);
      return;
    }
    const content = answer.text?.content ?? (answer.body === undefined ? '' : JSON.stringify(answer.body));
    const contentType = answer.text?.contentType ?? 'application/json; charset=utf-8';
    reply.raw.writeHead(answer.status, {
      ...answer.headers,
      ...(content === '' ? {} : { 'content-type': contentType }),
      'content-length': Buffer.byteLength(content),
    });
    reply.raw.end(content);
    observe(deps, route.endpoint.id, request, reply);
  } catch (error) {
    finishWithError(deps, route.endpoint.id, request, reply, toAppError(error));
  } finally {
    request.stoa.body?.release();
  }
}

/** Puts what a wildcard matched under the name that the contract gives it. */
function namedParams(endpoint: Endpoint, params: unknown): unknown {
  const wildcard = /\{(\w+)\*\}/.exec(endpoint.path)?.[1];
  if (wildcard === undefined || typeof params !== 'object' || params === null || !('*' in params))
    return params;
  const { '*': rest, ...others } = params;
  return { ...others, [wildcard]: rest };
}

function checkedIdempotencyKey(key: string): string {
  if (/^[\x21-\x7e]{1,255}$/.test(key)) return key;
  throw new AppError(
    'invalid_request',
    'Idempotency-Key must be 1 to 255 printable ASCII characters without spaces.',
    { param: 'Idempotency-Key' },
  );
}

function hashOf(url: string | undefined, bytes: Buffer | undefined): string {
  return createHash('sha256')
    .update(url ?? '')
    .update('\n')
    .update(bytes ?? '')
    .digest('hex');
}
