/**
 * From what a provider or the network did to a ProviderFault. Nothing that a provider wrote reaches a client but the
 * code, the parameter and the message of a well-formed rejection, and that message only after `rejectionMessage`.
 */
import type { OutboundFault, OutboundHeaders } from '#http';
import { rejectionMessage, safeMessage } from './fault-message.ts';
import { retryAfterMs } from './fault-retry-after.ts';
import { member } from './json-member.ts';
import type { ProviderConnection, ProviderFault } from './types.ts';

const DETAIL_CHARACTERS = 500;
/** Codes and parameter names are passed on only in these shapes, so that neither can carry text. */
const CODE = /^[\w.-]{1,64}$/;
const PARAM = /^[\w.[\]-]{1,128}$/;
const REQUEST_ID = /^[\w.:-]{1,128}$/;

/** A fault with everything left out that is not given. `detail` is cut to 500 characters. */
export function providerFault(
  kind: ProviderFault['kind'],
  detail: string,
  fields: Partial<Omit<ProviderFault, 'kind' | 'detail'>> = {},
): ProviderFault {
  return {
    kind,
    status: fields.status ?? null,
    retryAfterMs: fields.retryAfterMs ?? null,
    rejection: fields.rejection ?? null,
    detail: detail.slice(0, DETAIL_CHARACTERS),
    providerRequestId: fields.providerRequestId ?? null,
  };
}

/** The first value of a header, or null. */
export function headerOf(headers: OutboundHeaders, name: string): string | null {
  const value = headers[name];
  if (value === undefined) return null;
  return typeof value === 'string' ? value : (value[0] ?? null);
}

/** The id by which the provider knows the call, where it sent a sane one. */
export function providerRequestIdOf(headers: OutboundHeaders): string | null {
  const id = headerOf(headers, 'x-request-id') ?? headerOf(headers, 'request-id');
  return id !== null && REQUEST_ID.test(id) ? id : null;
}

/** Lower case, without parameters; empty where there is none. */
export function contentTypeOf(headers: OutboundHeaders): string {
  const value = headerOf(headers, 'content-type') ?? '';
  const end = value.indexOf(';');
  return (end === -1 ? value : value.slice(0, end)).trim().toLowerCase();
}

const kindOfOutbound = {
  unreachable: 'unreachable',
  cut: 'cut',
  unreadable: 'unreadable',
  too_large: 'unreadable',
  overloaded: 'unreachable',
  invalid: 'credential',
  cancelled: 'cancelled',
} as const satisfies Record<OutboundFault['kind'], ProviderFault['kind']>;

/**
 * A fault of the connection. A request that cannot even be sent (a credential with a line break) counts as a fault of
 * the credential: the operator's configuration must change, and no retry helps.
 */
export function faultOfOutbound(fault: OutboundFault, providerRequestId: string | null): ProviderFault {
  const code = fault.code === null ? '' : `${fault.code}: `;
  return providerFault(kindOfOutbound[fault.kind], `${code}${fault.detail}`, { providerRequestId });
}

/** The members of an error as OpenAI, Anthropic and their imitators write it. */
interface WrittenError {
  readonly message: string | null;
  readonly type: string | null;
  readonly code: string | null;
  readonly param: string | null;
}

function shapedText(value: unknown, shape: RegExp): string | null {
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' && shape.test(value) ? value : null;
}

/** The error in a body or a frame, or null where `json` holds none: `{"error": {...}}` or `{"error": "text"}`. */
function writtenError(json: unknown): WrittenError | null {
  // vLLM's older servers write the error's members flat, under `object: "error"`.
  const error = member(json, 'object') === 'error' ? json : member(json, 'error');
  if (typeof error === 'string') return { message: error, type: null, code: null, param: null };
  if (typeof error !== 'object' || error === null) return null;
  const message = member(error, 'message');
  return {
    message: typeof message === 'string' ? message : null,
    type: shapedText(member(error, 'type'), CODE),
    code: shapedText(member(error, 'code'), CODE),
    param: shapedText(member(error, 'param'), PARAM),
  };
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/** Codes by which a provider says that the account is spent: no throttle, since waiting does not help. */
const SPENT = new Set([
  'insufficient_quota',
  'billing_hard_limit_reached',
  'billing_not_active',
  'billing_error',
]);

/** What an error status means, before its body is asked: null where only the body tells. */
function kindOfStatus(status: number, error: WrittenError | null): ProviderFault['kind'] {
  if (error !== null && (SPENT.has(error.code ?? '') || SPENT.has(error.type ?? ''))) return 'credential';
  if (status === 401 || status === 402 || status === 403) return 'credential';
  if (status === 429) return 'throttled';
  if (status === 400 || status === 413 || status === 422) return 'rejected';
  // A 404 without an error in it is no answer about a model: the base URL is wrong, which is not the client's fault.
  if (status === 404) return error === null ? 'status' : 'rejected';
  return 'status';
}

const GENERIC_REJECTION = 'The provider rejected the request.';

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: OutboundHeaders;
  /** As much of the body as was read, at most 64 KiB. */
  readonly body: string;
  readonly connection: ProviderConnection;
  readonly nowMs: number;
}

/**
 * The fault of an answer whose status is not 2xx. `insufficient_quota` and 402 are faults of the operator's account
 * (`credential`); 503 and 529 keep `status` and carry their Retry-After; a redirect is never followed.
 */
export function faultOfStatus(answer: ErrorAnswer): ProviderFault {
  const { status, headers, connection } = answer;
  const json = parsed(answer.body);
  const error = writtenError(json);
  const kind = kindOfStatus(status, error);
  const message = error?.message ?? null;
  const named = [error?.type, error?.code, error?.param].filter((part) => typeof part === 'string').join(' ');
  // A rejection's message may quote the prompt, and the log must not hold one.
  const said = kind === 'rejected' || message === null ? '' : (safeMessage(message, connection) ?? '');
  const detail = `HTTP ${status} ${contentTypeOf(headers)} ${named} ${said}`.replaceAll(/\s+/g, ' ').trim();
  const told = message === null ? null : rejectionMessage(message, connection);
  return providerFault(kind, detail, {
    status,
    retryAfterMs: retryAfterMs(status, headers, answer.nowMs),
    rejection:
      kind === 'rejected'
        ? { code: error?.code ?? null, param: error?.param ?? null, message: told ?? GENERIC_REJECTION }
        : null,
    providerRequestId: providerRequestIdOf(headers),
  });
}

/**
 * The fault that a stream's frame tells of, or null where the frame is none of that kind. `json` is the frame's parsed
 * data; an error frame is one whose `error` is an object or a text (a chunk with `error: null` is none).
 */
export function faultOfFrame(
  json: unknown,
  connection: ProviderConnection,
  providerRequestId: string | null,
): ProviderFault | null {
  const error = writtenError(json);
  if (error === null) return null;
  const said = error.message === null ? '' : (safeMessage(error.message, connection) ?? '');
  const detail = `error frame: ${error.type ?? ''} ${error.code ?? ''} ${said}`
    .replaceAll(/\s+/g, ' ')
    .trim();
  return providerFault('error_frame', detail, { providerRequestId });
}
