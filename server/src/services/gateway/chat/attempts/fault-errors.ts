import type { ErrorCode } from '@stoa/contracts';
import { AppError } from '#kernel';
import type { ProviderFault } from '#models';

/**
 * What a client reads when a provider failed. Nothing of the provider's insides is in it: its own words reach a client
 * only as the message of a rejection, which the adapter has made safe to show.
 */

/** Whether the fault is the provider's, so that its breaker counts it. */
export function isProviderFault(fault: ProviderFault): boolean {
  switch (fault.kind) {
    case 'unreachable':
    case 'status':
    case 'unreadable':
    case 'empty':
    case 'credential':
    case 'cut':
    case 'error_frame':
    case 'timeout':
      return true;
    case 'throttled':
    case 'rejected':
    case 'cancelled':
      return false;
  }
}

/** Whether the same target may do better at once. A wrong credential or request stays wrong. */
export function isWorthRetrying(fault: ProviderFault): boolean {
  return isProviderFault(fault) && fault.kind !== 'credential' && fault.kind !== 'timeout';
}

/** Whether another target may do better. */
export function isWorthFallback(fault: ProviderFault): boolean {
  return fault.kind !== 'rejected' && fault.kind !== 'cancelled';
}

/** Whether the provider may have charged for the call: it took the request and worked on it. */
export function mayHaveCost(fault: ProviderFault): boolean {
  switch (fault.kind) {
    case 'unreadable':
    case 'empty':
    case 'cut':
    case 'error_frame':
    case 'timeout':
    case 'cancelled':
      return true;
    case 'unreachable':
    case 'status':
    case 'throttled':
    case 'credential':
    case 'rejected':
      return false;
  }
}

/**
 * The error of a request that ends with this fault.
 * @param wasMoneySpent whether any attempt of the request may have cost money
 */
export function errorOfFault(fault: ProviderFault, wasMoneySpent: boolean): AppError {
  const options = { wasMoneySpent, cause: fault };
  switch (fault.kind) {
    case 'unreachable':
      return new AppError('provider_unreachable', 'The provider could not be reached.', options);
    case 'status':
    case 'error_frame':
      return new AppError('provider_error', 'The provider failed to answer.', options);
    case 'cut':
      return new AppError('provider_error', 'The provider ended its answer early.', options);
    case 'unreadable':
      return new AppError('provider_unreadable', 'The provider sent an answer that cannot be read.', options);
    case 'empty':
      return new AppError('provider_unreadable', 'The provider sent an empty answer.', options);
    case 'timeout':
      return new AppError('provider_timeout', 'The provider did not answer in time.', options);
    case 'throttled':
      return throttledError(fault.retryAfterMs ?? 1_000, wasMoneySpent);
    case 'credential':
      return new AppError(
        'provider_misconfigured',
        'The provider refused the credential that this platform holds for it.',
        options,
      );
    case 'rejected':
      return rejectionError(fault, wasMoneySpent);
    case 'cancelled':
      return new AppError('client_closed', 'The client went away.', options);
  }
}

/** The error of a stream that broke after the client had some of it; what was delivered is billed. */
export function interruptionError(fault: ProviderFault): AppError {
  if (fault.kind !== 'cut' && fault.kind !== 'unreachable') return errorOfFault(fault, true);
  return new AppError('stream_interrupted', 'The provider cut the stream off.', {
    wasMoneySpent: true,
    cause: fault,
  });
}

export function throttledError(retryAfterMs: number, wasMoneySpent: boolean): AppError {
  return new AppError('provider_throttled', 'The provider takes no more requests for the moment.', {
    retryAfterMs,
    wasMoneySpent,
  });
}

export function unavailableError(retryAfterMs: number, wasMoneySpent: boolean): AppError {
  return new AppError(
    'target_unavailable',
    'The target has failed repeatedly and is left alone for a moment.',
    {
      retryAfterMs: Math.max(1_000, retryAfterMs),
      wasMoneySpent,
    },
  );
}

function rejectionError(fault: ProviderFault, wasMoneySpent: boolean): AppError {
  const { rejection } = fault;
  const code = rejectionCode(fault.status, rejection?.code ?? null);
  return new AppError(code, rejection?.message ?? 'The provider rejected the request.', {
    ...(rejection?.param ? { param: rejection.param } : {}),
    wasMoneySpent,
    cause: fault,
  });
}

function rejectionCode(status: number | null, code: string | null): ErrorCode {
  if (code === 'context_length_exceeded') return 'context_length_exceeded';
  if (code === 'content_filter' || code === 'content_policy_violation') return 'content_filter';
  if (code === 'unsupported_parameter') return 'unsupported_parameter';
  if (code === 'model_not_found' || status === 404) return 'model_not_found';
  if (status === 413) return 'body_too_large';
  return 'provider_rejected';
}
