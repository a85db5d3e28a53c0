import type { ServerResponse } from 'node:http';
import { type RouteClass, routeClassOf } from '@stoa/contracts';
import { toAppError } from '#kernel';
import type { RateLimitFields, RequestLimiter, RequestVerdict, Route } from '../types.ts';
import type { Incoming } from './incoming.ts';

/** Puts how the limits of a request stand into the head of its answer, whatever that will be. */
export function setRateLimitFields(response: ServerResponse, fields: RateLimitFields | null): void {
  if (fields === null || response.headersSent) return;
  response.setHeader('ratelimit-policy', fields.policy);
  response.setHeader('ratelimit', fields.state);
}

/** The class whose limits the edge checks; null for chats and embeddings, whose limits need the body and are their own. */
export function limitedClassOf({ kind, endpoint }: Route): RouteClass | null {
  return kind === 'raw' || endpoint.access === 'anyone' ? null : routeClassOf(endpoint);
}

/** Goes on where the caller's limits allow it, before the body is read. */
export function checkLimits(
  limiter: RequestLimiter,
  routeClass: RouteClass,
  { principal, context, response }: Incoming,
  done: (error?: Error) => void,
): void {
  if (principal?.kind !== 'tenant') {
    done();
    return;
  }
  const goOn = (verdict: RequestVerdict | null): void => {
    setRateLimitFields(response, verdict?.fields ?? null);
    done(verdict?.refusal ?? undefined);
  };
  const fail = (error: unknown): void => done(toAppError(error));
  let checked: ReturnType<RequestLimiter['check']>;
  try {
    checked = limiter.check(principal, routeClass, context.clientAddress);
  } catch (error) {
    fail(error);
    return;
  }
  if (checked instanceof Promise) checked.then(goOn, fail);
  else goOn(checked);
}
