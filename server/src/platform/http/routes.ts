import type { Endpoint, ErrorCode } from '@stoa/contracts';
import { isErrorCode } from '@stoa/contracts';
import type { OperatorPrincipal, TenantPrincipal } from '#kernel';
import { AppError } from '#kernel';
import type { z } from 'zod';
import type { JsonRoute, RawInput, RequestContext, RouteReply } from './types.ts';

/** Input whose shape the endpoint's schemas have checked. */
export interface CheckedInput<Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType> {
  readonly params: z.output<Params>;
  readonly query: z.output<Query>;
  readonly body: z.output<Body>;
}

/** A route for a tenant's key; the edge has checked the endpoint's permission. */
export function tenantRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: TenantPrincipal,
    context: RequestContext,
  ) => Promise<RouteReply>,
): JsonRoute {
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context) {
      if (principal?.kind !== 'tenant') throw new AppError('invalid_api_key', 'The API key is not valid.');
      return handler(checkInput(endpoint, raw), principal, context);
    },
  };
}

/** A route of the operator. */
export function operatorRoute<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  endpoint: Endpoint<P, Q, B>,
  handler: (
    input: CheckedInput<P, Q, B>,
    principal: OperatorPrincipal,
    context: RequestContext,
  ) => Promise<RouteReply>,
): JsonRoute {
  return {
    kind: 'json',
    endpoint,
    async handle(raw, principal, context) {
      if (principal?.kind !== 'operator') throw new AppError('invalid_api_key', 'The API key is not valid.');
      return handler(checkInput(endpoint, raw), principal, context);
    },
  };
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
  return {
    params: check(endpoint.params, raw.params),
    query: check(endpoint.query, raw.query),
    body: check(endpoint.body, raw.body),
  };
}

function check<S extends z.ZodType>(schema: S | undefined, value: unknown): z.output<S>;
function check(schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) return undefined;
  const result = schema.safeParse(value);
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
