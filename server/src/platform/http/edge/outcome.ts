import type { FastifyReply, FastifyRequest } from 'fastify';
import { type AppError, toTypeId } from '#kernel';
import { sendErrorEarly } from '../answers.ts';
import type { HttpServerDeps } from '../server.ts';

/** Answers with an error and accounts for it. */
export function finishWithError(
  deps: HttpServerDeps,
  endpointId: string,
  request: FastifyRequest,
  reply: FastifyReply,
  error: AppError,
): void {
  if (!reply.sent) reply.hijack();
  request.stoa.body?.release();
  if (error.code === 'internal_error') logFault(deps, request, error);
  noteDenied(deps, endpointId, request, error);
  sendErrorEarly(request.raw, reply.raw, error);
  observe(deps, endpointId, request, reply);
}

/** Tells of an answer `permission_denied` to somebody known. */
export function noteDenied(
  deps: HttpServerDeps,
  endpointId: string,
  request: FastifyRequest,
  error: AppError,
): void {
  const { principal, context } = request.stoa;
  if (error.code !== 'permission_denied' || principal === null) return;
  const missing = error.details['permission'];
  const permission = typeof missing === 'string' ? missing : (request.routeOptions.config.permission ?? null);
  deps.onDenied?.({ principal, endpointId, permission, context });
}

/** The cause of an answer `internal_error`, for us. */
export function logFault(deps: HttpServerDeps, request: FastifyRequest, error: AppError): void {
  deps.logger.error(
    { request_id: request.stoa.context.publicRequestId, err: error.cause ?? error },
    'a request failed for a reason of ours',
  );
}

/** The one line and the one observation of a request's outcome. */
export function observe(
  deps: HttpServerDeps,
  endpointId: string,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const { context, principal, startedAt } = request.stoa;
  const durationMs = performance.now() - startedAt;
  const { statusCode } = reply.raw;
  const labels = { endpoint: endpointId, status: String(statusCode) };
  deps.metrics.requests.add(1, labels);
  deps.metrics.seconds.observe(durationMs / 1000, { endpoint: endpointId });
  deps.accessLog?.({
    request_id: context.publicRequestId,
    tenant_id: principal?.kind === 'tenant' ? toTypeId('ten', principal.tenantId) : null,
    key_id: principal?.keyId ?? null,
    method: request.method,
    endpoint: endpointId,
    status: statusCode,
    duration_ms: Math.round(durationMs * 10) / 10,
    ...(context.traceId === undefined ? {} : { trace_id: context.traceId }),
  });
}
