import type { ErrorRow } from './errors.ts';

/** What goes wrong with providers; part of the one table in errors.ts. */
export const providerErrors = {
  provider_unreachable: {
    status: 502,
    type: 'server_error',
    title: 'The provider could not be reached',
    retry: 'later',
    remedy: 'Try again, or choose another target.',
  },
  provider_error: {
    status: 502,
    type: 'server_error',
    title: 'The provider failed',
    retry: 'later',
    remedy: 'Try again, or choose another target.',
  },
  provider_unreadable: {
    status: 502,
    type: 'server_error',
    title: 'The provider sent an answer that cannot be read',
    retry: 'later',
    remedy: 'Try again, or choose another target.',
  },
  provider_timeout: {
    status: 504,
    type: 'server_error',
    title: 'The provider did not answer in time',
    retry: 'later',
    remedy: 'Try again, raise x-stoa-timeout-ms, or choose another target.',
  },
  provider_throttled: {
    status: 429,
    type: 'rate_limit_error',
    title: 'The provider is throttling',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  provider_misconfigured: {
    status: 502,
    type: 'server_error',
    title: 'The provider refused the credential of this platform',
    retry: 'never',
    remedy: "The operator must correct the provider's credential.",
  },
  target_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'The target is unavailable for the moment',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After, or choose another target.',
  },
  no_target: {
    status: 503,
    type: 'server_error',
    title: 'No target can answer this request',
    retry: 'later',
    remedy: 'Ask the operator to enable a target.',
  },
  stream_interrupted: {
    status: 502,
    type: 'server_error',
    title: 'The stream was cut off',
    retry: 'never',
    remedy: 'What was delivered is billed; send the request again if you need the whole answer.',
  },
} as const satisfies Record<string, ErrorRow>;
