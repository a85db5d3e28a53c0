/**
 * Tenants, access and audit behind two real listeners, for the tests of these modules. Several on one database are
 * several processes as far as they can tell.
 */

import { randomBytes } from 'node:crypto';
import { type Dispatcher, request as send } from 'undici';
import { type AccessDeps, type AccessModule, type AccessSettings, createAccess } from '#access';
import { type AuditModule, createAudit } from '#audit';
import type { Broadcast } from '#cache';
import type { Database } from '#db';
import { createBodyBudget, createHttpServer, type HttpServer, type RequestLimiter, type Route } from '#http';
import { type Clock, createSealer, type Logger, systemClock } from '#kernel';
import type { QuotasModule } from '#quotas';
import { createTelemetry, type Telemetry } from '#telemetry';
import { createTenants, type TenantsModule } from '#tenants';
import { z } from 'zod';

export interface ControlPlaneOptions {
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly access?: AccessSettings;
  /** Between several control planes; none by default. */
  readonly broadcast?: Broadcast;
  /** What answers for the key sets of outside issuers; none by default. */
  readonly outbound?: NonNullable<AccessDeps['outbound']>;
  /** Whose limits hold, and whose routes are served; by default there are none. */
  readonly quotas?: Pick<QuotasModule, 'limiter' | 'unknownKeys' | 'routes'> &
    Partial<Pick<QuotasModule, 'hasKeyLimits'>>;
  /** Of 32 bytes; random by default. Several control planes on one database need the same. */
  readonly masterKey?: Uint8Array;
  /** Of both listeners; default none. */
  readonly trustedProxies?: readonly string[];
  /** Served beside the modules' own. */
  readonly routes?: (modules: { readonly access: AccessModule }) => readonly Route[];
}

export interface Answer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData['headers'];
  /** The body as it came. */
  readonly text: string;
  /** The body as JSON, or undefined where it is none. */
  readonly body: unknown;
}

export interface Call {
  readonly key?: string;
  readonly body?: unknown;
  /** Sent instead of `body`, as it is. */
  readonly rawBody?: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ControlPlane {
  readonly access: AccessModule;
  readonly audit: AuditModule;
  readonly tenants: TenantsModule;
  readonly telemetry: Telemetry;
  /** Sends to the admin listener, with the operator's first key where the call names none. */
  admin(method: Dispatcher.HttpMethod, path: string, call?: Call): Promise<Answer>;
  /** Sends to the public listener, without a credential where the call names none. */
  open(method: Dispatcher.HttpMethod, path: string, call?: Call): Promise<Answer>;
  readonly operatorKey: string;
  close(): Promise<void>;
}

const errorShape = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string(),
  }),
});

/** The error in an answer, its body held to the one shape of errors; throws where it is none. */
export function errorIn(answer: Answer): z.infer<typeof errorShape>['error'] & { readonly status: number } {
  const body = errorShape.strict().parse(answer.body);
  if (body.status !== answer.status)
    throw new Error(`the body says ${body.status}, the head ${answer.status}`);
  return { ...body.error, status: answer.status };
}

/** Starts both listeners on loopback, without the polls and timers: a test starts `access.lifecycle` where it needs it. */
export async function openControlPlane(
  db: Database,
  options: ControlPlaneOptions = {},
): Promise<ControlPlane> {
  const clock = options.clock ?? systemClock;
  const telemetry = await createTelemetry({
    logLevel: 'silent',
    serviceName: 'test',
    serviceVersion: '0.0.0',
    tracing: null,
  });
  const logger = options.logger ?? telemetry.logger;
  const sealer = createSealer(options.masterKey ?? randomBytes(32));
  const audit = createAudit({ db, logger, metrics: telemetry.metrics });
  const access = createAccess(
    {
      db,
      clock,
      logger,
      metrics: telemetry.metrics,
      sealer,
      ...(options.broadcast ? { broadcast: options.broadcast } : {}),
      ...(options.outbound ? { outbound: options.outbound } : {}),
      onKnownRefused: (refused) => audit.api.refused(refused),
      ...(options.quotas ? { unknownCredentials: options.quotas.unknownKeys } : {}),
      ...(options.quotas?.hasKeyLimits ? { hasKeyLimits: options.quotas.hasKeyLimits } : {}),
    },
    options.access ?? {},
  );
  const tenants = createTenants({
    db,
    clock,
    logger,
    onChanged: (tenantId, version) => access.api.tenantChanged(tenantId, version),
  });
  const routes = [
    ...tenants.routes,
    ...access.routes,
    ...audit.routes,
    ...(options.quotas?.routes ?? []),
    ...(options.routes?.({ access }) ?? []),
  ];
  const parts = { access, audit, limiter: options.quotas?.limiter };
  const [admin, open] = await Promise.all([
    listen(parts, logger, routes, 'admin', options.trustedProxies),
    listen(parts, logger, routes, 'public', options.trustedProxies),
  ]);
  const { key: operatorKey } = await access.api.createOperatorKey(
    { operator: 'system:test' },
    { name: 'test' },
  );
  return {
    access,
    audit,
    tenants,
    telemetry,
    operatorKey,
    admin: (method, path, call = {}) => exchange(admin.url, method, path, { key: operatorKey, ...call }),
    open: (method, path, call = {}) => exchange(open.url, method, path, call),
    async close() {
      for (const { server } of [admin, open]) server.destroy();
      await Promise.all([admin.server.drain(), open.server.drain()]);
      await access.lifecycle.stop();
      await telemetry.stop();
    },
  };
}

async function listen(
  {
    access,
    audit,
    limiter,
  }: {
    readonly access: AccessModule;
    readonly audit: AuditModule;
    readonly limiter: RequestLimiter | undefined;
  },
  logger: Logger,
  routes: readonly Route[],
  listener: 'admin' | 'public',
  trustedProxies: readonly string[] = [],
): Promise<{ server: HttpServer; url: string }> {
  const nothing = { add: () => undefined, observe: () => undefined };
  const server = createHttpServer(
    {
      authenticator: access.authenticator,
      idempotency: access.idempotency,
      onDenied: (denied) => audit.api.denied(denied),
      ...(limiter ? { limiter } : {}),
      budget: createBodyBudget(1024 * 1024, 16 * 1024 * 1024),
      logger,
      accessLog: null,
      gate: () => null,
      metrics: { requests: nothing, seconds: nothing },
    },
    {
      routes: routes.filter(({ endpoint }) => endpoint.listener === listener),
      headersTimeoutMs: 5000,
      requestTimeoutMs: 5000,
      keepAliveTimeoutMs: 5000,
      maximumHeaderBytes: 16 * 1024,
      trustedProxies,
    },
  );
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return { server, url: `http://127.0.0.1:${port}` };
}

async function exchange(
  origin: string,
  method: Dispatcher.HttpMethod,
  path: string,
  { key, body, rawBody, headers = {} }: Call,
): Promise<Answer> {
  const content = rawBody ?? (body === undefined ? null : JSON.stringify(body));
  const answer = await send(`${origin}${path}`, {
    method,
    headers: {
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...(content === null ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    body: content,
  });
  const text = await answer.body.text();
  const isLines = answer.headers['content-type'] === 'application/x-ndjson';
  return {
    status: answer.statusCode,
    headers: answer.headers,
    text,
    body: isLines ? undefined : jsonIn(text),
  };
}

function jsonIn(text: string): unknown {
  if (text === '') return undefined;
  const value: unknown = JSON.parse(text);
  return value;
}
