import { faultOfFrame, providerFault } from '../fault.ts';
import { member, textOf } from '../json-member.ts';
import type { ProviderConnection, ProviderFault } from '../types.ts';

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/**
 * The Messages API names errors by broad types only, so these two are told by the beginning of their message: nothing
 * else in the answer says that the input is too long, or that the operator's account is empty.
 */
const TOO_LONG = /^prompt is too long|^input length and `max_tokens` exceed context limit/;
const NO_CREDIT = /^Your credit balance is too low/;

/** Puts OpenAI's code on a rejection, and takes an empty account for what it is: the operator's fault. */
export function faultOfRefusal(fault: ProviderFault, body: string): ProviderFault {
  if (fault.rejection === null) return fault;
  const error = member(parsed(body), 'error');
  const message = textOf(error, 'message') ?? '';
  if (NO_CREDIT.test(message))
    return { ...fault, kind: 'credential', rejection: null, detail: `${fault.detail} no credit` };
  const type = textOf(error, 'type');
  let code = fault.rejection.code;
  if (TOO_LONG.test(message)) code = 'context_length_exceeded';
  else if (type === 'not_found_error') code = 'model_not_found';
  return { ...fault, rejection: { ...fault.rejection, code } };
}

const kinds: Readonly<Record<string, ProviderFault['kind']>> = {
  rate_limit_error: 'throttled',
  authentication_error: 'credential',
  permission_error: 'credential',
  billing_error: 'credential',
};

/** The fault that an `error` event in a stream tells of. */
export function faultOfErrorEvent(
  event: unknown,
  connection: ProviderConnection,
  providerRequestId: string | null,
): ProviderFault {
  const fault =
    faultOfFrame(event, connection, providerRequestId) ??
    providerFault('error_frame', 'an error event without an error', { providerRequestId });
  return { ...fault, kind: kinds[textOf(member(event, 'error'), 'type') ?? ''] ?? 'error_frame' };
}
