import type { Endpoint, ErrorCode } from '@stoa/contracts';
import { isErrorCode } from '@stoa/contracts';
import type { OperatorPrincipal, Principal, TenantPrincipal } from '#kernel';
import { AppError, nearestOf } from '#kernel';
import { z } from 'zod';
import { inputAdvice } from './input-faults.ts';
import type { JsonRoute, KeepAnswer, KeptReply, RawInput, RequestContext, RouteReply } from './types.ts';

/** Input whose shape the endpoint's schemas have checked. */
export interface CheckedInput<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType> {
  readonly params: z.output<Params>;
  readonly query: z.output<Query>;
  readonly body: z.output<Body>;
}

/** A route for a tenant's key; the edge has checked the endpoint's permission. Not for creating POSTs. */
export function tenantRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: TenantPrincipal,
    context: RequestContext,
  ) => Promise<RouteReply>,
): JsonRoute {
  requireNotCreating(endpoint);
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context) {
      const caller = requireTenant(principal);
      return handler(checkInput(endpoint, raw), caller, context);
    },
  };
}

/** A route of the operator. Not for creating POSTs. */
export function operatorRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: OperatorPrincipal,
    context: RequestContext,
  ) => Promise<RouteReply>,
): JsonRoute {
  requireNotCreating(endpoint);
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context) {
      const caller = requireOperator(principal);
      return handler(checkInput(endpoint, raw), caller, context);
    },
  };
}

/**
 * A creating POST for a tenant's key: an endpoint with `idempotent: 'key'`. The handler can only answer with what `keep`
 * made of its answer, inside the transaction of the change.
 */
export function creatingTenantRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: TenantPrincipal,
    context: RequestContext,
    keep: KeepAnswer,
  ) => Promise<KeptReply>,
): JsonRoute {
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context, keep = keepNothing) {
      const caller = requireTenant(principal);
      return (await handler(checkInput(endpoint, raw), caller, context, keep)).kept;
    },
  };
}

/** A creating POST of the operator; see `creatingTenantRoute`. */
export function creatingOperatorRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: OperatorPrincipal,
    context: RequestContext,
    keep: KeepAnswer,
  ) => Promise<KeptReply>,
): JsonRoute {
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context, keep = keepNothing) {
      const caller = requireOperator(principal);
      return (await handler(checkInput(endpoint, raw), caller, context, keep)).kept;
    },
  };
}

const keepNothing: KeepAnswer = async (_tx, reply) => ({ kept: reply });

function requireTenant(principal: Principal | null): TenantPrincipal {
  if (principal?.kind === 'tenant') return principal;
  throw new AppError('invalid_api_key', 'The API key is not valid.');
}

function requireOperator(principal: Principal | null): OperatorPrincipal {
  if (principal?.kind === 'operator') return principal;
  throw new AppError('invalid_api_key', 'The API key is not valid.');
}

/** At the wiring, so that no process starts with a creating POST whose repeats would run again. */
function requireNotCreating({ id, idempotent }: Endpoint): void {
  if (idempotent !== 'key') return;
  throw new Error(`${id} honours Idempotency-Key: its route must be made by a creating...Route`);
}

/** A route without a credential. */
export function openRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (input: CheckedInput<P, Q, B>, context: RequestContext) => Promise<RouteReply>,
): JsonRoute {
  return {
    kind: 'json',
    endpoint,
    async handle(raw, _principal, context) {
      return handler(checkInput(endpoint, raw), context);
    },
  };
}

function checkInput<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  raw: RawInput,
): CheckedInput<P, Q, B> {
  refuseUnknown(endpoint.query, raw.query);
  return {
    params: check(endpoint.params, raw.params),
    query: check(endpoint.query, raw.query),
    body: check(endpoint.body, raw.body),
  };
}

/**
 * A misspelt filter that is passed over would answer with everything. Endpoints that declare no query take any: OpenAI's
 * clients may send what Stoa has no use for.
 */
function refuseUnknown(schema: z.ZodType | undefined, query: unknown): void {
  if (!(schema instanceof z.ZodObject) || typeof query !== 'object' || query === null) return;
  const names = Object.keys(schema.shape);
  const unknown = Object.keys(query).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  const shown = unknown.slice(0, 100);
  const nearest = nearestOf(shown, names);
  const advice = nearest === null ? `It has ${names.toSorted().join(', ')}` : `Did you mean ${nearest}?`;
  throw new AppError(
    'invalid_request',
    `This endpoint has no query parameter ${shown}. ${advice}${nearest === null ? '.' : ''}`,
    {
      param: shown,
    },
  );
}

function check<S extends z.ZodType>(schema: S | undefined, value: unknown): z.output<S>;
function check(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined;
  const result = schema.safeParse(value, { error: inputAdvice });
  if (result.success) return result.data;
  throw invalidInput(result.error.issues);
}

/** The first fault as an error with its field in `param`; how many more there are is in the message. */
function invalidInput(issues: readonly z.core.$ZodIssue[]): AppError {
  const [issue] = issues;
  if (!issue) return new AppError('invalid_request', 'The request is not valid.');
  const param = fieldPath(issue.path);
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : '';
  const message = param === '' ? `${issue.message}${more}.` : `${param}: ${issue.message}${more}.`;
  return new AppError(codeOf(issue), message.slice(0, 500), param === '' ? {} : { param });
}

function codeOf(issue: z.core.$ZodIssue): ErrorCode {
  if (issue.code !== 'custom') return 'invalid_request';
  const code: unknown = issue.params?.['code'];
  return typeof code === 'string' && isErrorCode(code) ? code : 'invalid_request';
}

/** `messages[0].role` from a path of keys. */
function fieldPath(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += text === '' ? String(part) : `.${String(part)}`;
  }
  return text.slice(0, 200);
}
