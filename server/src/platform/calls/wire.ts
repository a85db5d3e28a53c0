import {
  callAnswer,
  type CallEnvelope,
  callEnvelope,
  type CallMethod,
  isErrorCode,
  type WirePrincipal,
} from '@stoa/contracts';
import { AppError, asTenantId, type Clock } from '#kernel';
import { z } from 'zod';
import type { CallContext, CallPrincipal } from './types.ts';

/**
 * A call as bytes and back. The schemas of the method do the work: their codecs have a JSON form for what JSON lacks
 * (contracts/src/calls/wire-values.ts). What is left is written by `exactJson`, which refuses what JSON would change in
 * silence, so that a call either arrives as it was or fails aloud.
 */

/** @param remainingMs what is left of the caller's time, above 0 */
export function writeCall(
  method: CallMethod,
  call: CallContext,
  input: unknown,
  remainingMs: number,
): string {
  return exactJson({
    version: 1,
    tenant_id: call.tenantId,
    principal: principalToWire(call.principal),
    remaining_ms: Math.ceil(remainingMs),
    traceparent: call.traceparent,
    idempotency_key: call.idempotencyKey,
    input: z.encode(method.input, input),
  });
}

/** @throws AppError `invalid_request` where the body is no envelope */
export function readEnvelope(json: unknown): CallEnvelope {
  const envelope = callEnvelope.safeParse(json);
  if (!envelope.success) throw unreadable('The envelope', envelope.error);
  const { principal, tenant_id } = envelope.data;
  if (principal.kind === 'tenant' && principal.tenant_id !== tenant_id) {
    throw new AppError('invalid_request', 'The tenant of the call is not that of its principal.');
  }
  return envelope.data;
}

/** @throws AppError `invalid_request` where the input does not fit the method */
export function readInput(method: CallMethod, envelope: CallEnvelope): unknown {
  const input = z.safeDecode(method.input, envelope.input);
  if (!input.success) throw unreadable('The input', input.error);
  return input.data;
}

/** The context of a call that came in; its time begins to run now. */
export function readContext(envelope: CallEnvelope, clock: Clock, signal: AbortSignal): CallContext {
  return {
    tenantId: envelope.tenant_id === null ? null : asTenantId(envelope.tenant_id),
    principal: principalFromWire(envelope.principal),
    deadlineAtMs: clock.monotonic() + envelope.remaining_ms,
    signal,
    traceparent: envelope.traceparent,
    idempotencyKey: envelope.idempotency_key,
  };
}

/** @throws where the answer is not what the method promises */
export function writeOutput(method: CallMethod, output: unknown): string {
  return exactJson({ version: 1, output: z.encode(method.output, output) });
}

/** Of an `internal_error` nothing crosses but that it was one. */
export function writeError(error: AppError): string {
  const isOurs = error.code === 'internal_error';
  return JSON.stringify({
    version: 1,
    error: {
      code: error.code,
      message: isOurs ? internalMessage : error.publicMessage,
      param: isOurs ? null : error.param,
      retry_after_ms: error.retryAfterMs,
      was_money_spent: error.wasMoneySpent,
      details: isOurs ? {} : shownDetails(error.details),
    },
  });
}

const internalMessage = 'Something went wrong on our side.';

/** Details are for people: a bigint goes as its digits, and what JSON cannot carry at all is left out. */
function shownDetails(details: AppError['details']): unknown {
  try {
    const show = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? `${value}` : value);
    return JSON.parse(JSON.stringify(details, show));
  } catch {
    return {};
  }
}

/**
 * What the method answered.
 * @returns null where the body is no answer of a method but of something on the way
 * @throws AppError what the method threw; `internal_error` where its answer does not fit
 */
export function readAnswer(method: CallMethod, json: unknown): { readonly output: unknown } | null {
  const answer = callAnswer.safeParse(json);
  if (!answer.success) return null;
  if ('error' in answer.data) throw errorFromWire(answer.data.error);
  const output = z.safeDecode(method.output, answer.data.output);
  if (output.success) return { output: output.data };
  throw new AppError('internal_error', internalMessage, { cause: output.error });
}

type WireError = Extract<z.output<typeof callAnswer>, { error: unknown }>['error'];

/** A code that this version does not know came from a newer one. */
function errorFromWire(error: WireError): AppError {
  if (!isErrorCode(error.code)) {
    const cause = new Error(`the callee answered with the unknown code ${error.code}`);
    return new AppError('internal_error', internalMessage, { cause });
  }
  return new AppError(error.code, error.message, {
    ...(error.param === null ? {} : { param: error.param }),
    ...(error.retry_after_ms === null ? {} : { retryAfterMs: error.retry_after_ms }),
    details: error.details,
    wasMoneySpent: error.was_money_spent,
  });
}

function principalToWire(principal: CallPrincipal): WirePrincipal {
  if (principal.kind === 'system') return { kind: 'system', name: principal.name };
  if (principal.kind === 'operator')
    return { kind: 'operator', key_id: principal.keyId, role: principal.role };
  return {
    kind: 'tenant',
    tenant_id: principal.tenantId,
    key_id: principal.keyId,
    role: principal.role,
    scopes: principal.scopes === null ? null : [...principal.scopes],
    project_id: principal.projectId,
    tags: { ...principal.tags },
    ...(principal.memberId === undefined ? {} : { member_id: principal.memberId }),
    ...(principal.tokenId === undefined ? {} : { token_id: principal.tokenId }),
    ...(principal.endUser === undefined ? {} : { end_user: principal.endUser }),
  };
}

function principalFromWire(principal: WirePrincipal): CallPrincipal {
  if (principal.kind === 'system') return { kind: 'system', name: principal.name };
  if (principal.kind === 'operator')
    return { kind: 'operator', keyId: principal.key_id, role: principal.role };
  return {
    kind: 'tenant',
    tenantId: asTenantId(principal.tenant_id),
    keyId: principal.key_id,
    role: principal.role,
    scopes: principal.scopes === null ? null : new Set(principal.scopes),
    projectId: principal.project_id,
    tags: principal.tags,
    standing: { refusal: null },
    memberId: principal.member_id,
    tokenId: principal.token_id,
    endUser: principal.end_user,
  };
}

/** JSON of what JSON can hold. @throws TypeError with the name of the member that it cannot */
export function exactJson(value: object): string {
  return JSON.stringify(value, function exact(this: object, key: string, shown: unknown) {
    const held: unknown = Reflect.get(this, key);
    if (!isExact(held, Array.isArray(this))) throw new TypeError(`JSON has no form for the member ${key}`);
    return shown;
  });
}

function isExact(held: unknown, isElement: boolean): boolean {
  switch (typeof held) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(held) && !Object.is(held, -0);
    case 'undefined':
      return !isElement;
    case 'object':
      return held === null || Array.isArray(held) || isPlain(held);
    case 'bigint':
    case 'symbol':
    case 'function':
      return false;
  }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function unreadable(what: string, error: z.ZodError): AppError {
  const [issue] = error.issues;
  const where = issue?.path.map(String).join('.') ?? '';
  const message = `${what} of the call cannot be read: ${where === '' ? '' : `${where}: `}${issue?.message ?? ''}`;
  return new AppError('invalid_request', message.slice(0, 500), { cause: error });
}
