import type { z } from 'zod';
import type { ErrorCode } from './errors.ts';
import type { OperatorPermission, Permission } from './permissions.ts';

/** `public` is STOA_LISTEN (tenants), `admin` is STOA_ADMIN_LISTEN (the operator). */
export type Listener = 'public' | 'admin';

/**
 * Who may call: whoever holds this permission of the one table, or anybody. A permission of tenants is asked of a tenant's
 * key, on the public listener, and one of the operator's of an operator's key, on the admin listener; neither is ever
 * accepted in the other's place.
 */
export type Access = { readonly permission: Permission | OperatorPermission } | 'anyone';

export interface EndpointResponse<Output = unknown> {
  readonly description: string;
  readonly schema?: z.ZodType<Output>;
  /** Default `application/json`. */
  readonly contentType?: string;
}

export interface EndpointExample {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/**
 * One HTTP operation: everything a client, the router, the OpenAPI document and the tests need to know of it.
 * `path` uses `{name}` for parameters. `idempotent: 'key'` means a creating POST that honours `Idempotency-Key`.
 * `errors` lists the codes beyond those that every endpoint can answer (`commonErrors`). `Output` is what the answer's
 * body is; `unknown` where no answer has a schema.
 */
export interface Endpoint<
  Params extends z.ZodType = z.ZodType,
  Query extends z.ZodType = z.ZodType,
  Body extends z.ZodType = z.ZodType,
  Output = unknown,
> {
  readonly id: string;
  readonly listener: Listener;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly summary: string;
  readonly access: Access;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly responses: Readonly<Record<number, EndpointResponse<Output>>>;
  readonly errors: readonly ErrorCode[];
  readonly idempotent: 'yes' | 'no' | 'key';
  readonly example: EndpointExample;
}

/** Declares an endpoint and keeps the exact types of its shapes. */
export function endpoint<
  Params extends z.ZodType = z.ZodNever,
  Query extends z.ZodType = z.ZodNever,
  Body extends z.ZodType = z.ZodNever,
  Output = unknown,
>(declaration: Endpoint<Params, Query, Body, Output>): Endpoint<Params, Query, Body, Output> {
  return declaration;
}

/** Codes that any endpoint with a credential can answer, so that they need not be repeated. */
export const commonErrors: readonly ErrorCode[] = [
  'invalid_api_key',
  'key_revoked',
  'key_expired',
  'token_expired',
  'token_revoked',
  'issuer_unavailable',
  'permission_denied',
  'tenant_suspended',
  'ip_not_allowed',
  'internal_error',
  'overloaded',
  'rate_limit_exceeded',
  'limits_unavailable',
  'draining',
  'database_unavailable',
];
