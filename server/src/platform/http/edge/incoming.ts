import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { newRequestId, type Principal, toTypeId } from '#kernel';
import type { HeldBody } from '../body.ts';
import type { Forwarded, RequestContext } from '../types.ts';
import type { ClientAddressOf } from './client-address.ts';

declare module 'fastify' {
  interface FastifyRequest {
    stoa: Incoming;
  }
  interface FastifyContextConfig {
    endpointId?: string;
    permission?: string;
  }
}

/** What the edge knows of a request while it works on it. */
export interface Incoming {
  readonly context: RequestContext;
  readonly startedAt: number;
  readonly response: ServerResponse;
  principal: Principal | null;
  body: HeldBody | null;
  /** True where another process of the cluster proved to have forwarded it. */
  readonly isForwarded: boolean;
}

/**
 * Gives the request its id and context, once. A request that the gateway forwarded keeps the id that it has there, and the
 * caller's own id and address are the ones that the gateway saw.
 */
export function prepare(
  request: FastifyRequest,
  reply: FastifyReply,
  forwarded: Forwarded | null,
  clientAddressOf: ClientAddressOf,
): void {
  const requestId = forwarded?.requestId ?? newRequestId();
  const publicRequestId = toTypeId('req', requestId);
  const headers = request.raw.headers;
  const ownId = forwarded === null ? printable(headers['x-request-id']) : null;
  const clientRequestId = ownId ?? printable(headers['x-client-request-id']);
  request.stoa = {
    startedAt: performance.now(),
    response: reply.raw,
    principal: null,
    body: null,
    isForwarded: forwarded !== null,
    context: {
      requestId,
      publicRequestId,
      clientRequestId,
      traceparent: single(headers['traceparent']),
      clientAddress: forwarded?.clientAddress ?? clientAddressOf(request.raw),
      userAgent: single(headers['user-agent']),
      ifMatch: single(headers['if-match']),
      idempotencyKey: single(headers['idempotency-key']),
    },
  };
  reply.raw.setHeader('x-request-id', publicRequestId);
  if (clientRequestId !== null) reply.raw.setHeader('x-client-request-id', clientRequestId);
}

function single(value: string | string[] | undefined): string | null {
  return typeof value === 'string' ? value : null;
}

function printable(value: string | string[] | undefined): string | null {
  const text = single(value)
    ?.replace(/[^\x20-\x7e]/g, '')
    .slice(0, 128);
  return text === undefined || text === '' ? null : text;
}
