import { providerErrors } from './errors-providers.ts';

/**
 * Every error code that Stoa answers with, in one table: HTTP status, OpenAI's `type`, a title for people, and whether
 * a client's retry can help. The status, the problem document and the reference page all follow from it; nothing else
 * in the tree names an HTTP status for an error.
 *
 * `retry`: `never` (the same request fails again), `later` (after `Retry-After` where one is sent), `now`.
 * `spent` marks codes after which money may have been spent, so that clients are told not to retry by themselves.
 */
export type RetryAdvice = 'never' | 'later' | 'now';

export interface ErrorRow {
  readonly status: number;
  readonly type: string;
  readonly title: string;
  readonly retry: RetryAdvice;
  /** What a caller can do about it, one sentence. */
  readonly remedy: string;
}

const invalid = 'invalid_request_error';

export const errorTable = {
  // The request itself
  invalid_json: {
    status: 400,
    type: invalid,
    title: 'The body is not valid JSON',
    retry: 'never',
    remedy: 'Send one JSON value encoded as UTF-8.',
  },
  invalid_encoding: {
    status: 400,
    type: invalid,
    title: 'The body is not valid UTF-8',
    retry: 'never',
    remedy: 'Encode the body as UTF-8 without invalid sequences.',
  },
  json_too_deep: {
    status: 400,
    type: invalid,
    title: 'The body is nested too deeply',
    retry: 'never',
    remedy: 'Nest objects and arrays at most 128 levels deep.',
  },
  invalid_request: {
    status: 400,
    type: invalid,
    title: 'The request is not valid',
    retry: 'never',
    remedy: 'Correct the field named in `param`.',
  },
  invalid_text: {
    status: 400,
    type: invalid,
    title: 'The text holds characters that cannot be stored',
    retry: 'never',
    remedy: 'Remove NUL characters and lone surrogates from the field named in `param`.',
  },
  key_lifetime_exceeded: {
    status: 400,
    type: invalid,
    title: "The key would live longer than the tenant's key policy allows",
    retry: 'never',
    remedy: 'Send an `expires_at` within the time that the message names, or change the key policy.',
  },
  unsupported_parameter: {
    status: 400,
    type: invalid,
    title: 'The parameter is not supported by the target',
    retry: 'never',
    remedy: 'Leave the parameter out, or choose a target that supports it.',
  },
  context_length_exceeded: {
    status: 400,
    type: invalid,
    title: 'The input is longer than the model takes',
    retry: 'never',
    remedy: 'Shorten the messages or choose a model with a larger context.',
  },
  content_filter: {
    status: 400,
    type: invalid,
    title: 'The provider refused the content',
    retry: 'never',
    remedy: 'Change the input.',
  },
  provider_rejected: {
    status: 400,
    type: invalid,
    title: 'The provider rejected the request',
    retry: 'never',
    remedy: 'Correct the request as the message says.',
  },
  body_too_large: {
    status: 413,
    type: invalid,
    title: 'The body is too large',
    retry: 'never',
    remedy: 'Send a smaller body; the limit is in the message.',
  },
  header_too_large: {
    status: 431,
    type: invalid,
    title: 'The request headers are too large',
    retry: 'never',
    remedy: 'Send fewer or shorter headers.',
  },
  unsupported_media_type: {
    status: 415,
    type: invalid,
    title: 'The content type is not supported',
    retry: 'never',
    remedy: 'Send `Content-Type: application/json`.',
  },
  request_timeout: {
    status: 408,
    type: invalid,
    title: 'The request took too long to arrive',
    retry: 'now',
    remedy: 'Send the whole request without long pauses.',
  },
  bad_request: {
    status: 400,
    type: invalid,
    title: 'The request is not valid HTTP',
    retry: 'never',
    remedy: 'Send well-formed HTTP/1.1.',
  },
  unsupported_endpoint: {
    status: 404,
    type: invalid,
    title: 'This endpoint does not exist yet',
    retry: 'never',
    remedy: 'Use POST /v1/chat/completions.',
  },
  not_found: {
    status: 404,
    type: invalid,
    title: 'There is no such resource',
    retry: 'never',
    remedy: 'Check the path and the id.',
  },
  model_not_found: {
    status: 404,
    type: invalid,
    title: 'There is no such model',
    retry: 'never',
    remedy: 'List the models with GET /v1/models.',
  },
  method_not_allowed: {
    status: 405,
    type: invalid,
    title: 'The path does not take this method',
    retry: 'never',
    remedy: 'Use a method that the Allow header lists.',
  },
  conflict: {
    status: 409,
    type: invalid,
    title: 'The resource is in a state that does not allow this',
    retry: 'never',
    remedy: 'Read the resource and decide again.',
  },
  already_exists: {
    status: 409,
    type: invalid,
    title: 'A resource with this name exists already',
    retry: 'never',
    remedy: 'Choose another name.',
  },
  idempotency_conflict: {
    status: 409,
    type: invalid,
    title: 'The idempotency key was used with another request',
    retry: 'never',
    remedy: 'Use a new Idempotency-Key for a new request.',
  },
  idempotency_in_progress: {
    status: 409,
    type: invalid,
    title: 'A request with this idempotency key is still running',
    retry: 'later',
    remedy: 'Wait and send the same request again.',
  },
  version_conflict: {
    status: 412,
    type: invalid,
    title: 'The resource was changed by somebody else',
    retry: 'never',
    remedy: 'Read it again and repeat the change on the new version.',
  },
  managed_by_file: {
    status: 409,
    type: invalid,
    title: 'The resource is managed by the configuration file',
    retry: 'never',
    remedy: 'Change it in stoa.yaml and run `stoa apply`.',
  },
  // Who asks
  invalid_api_key: {
    status: 401,
    type: 'authentication_error',
    title: 'The API key is not valid',
    retry: 'never',
    remedy: 'Send `Authorization: Bearer <key>` with a valid key.',
  },
  key_revoked: {
    status: 401,
    type: 'authentication_error',
    title: 'The API key was revoked',
    retry: 'never',
    remedy: 'Ask an administrator for a new key.',
  },
  key_expired: {
    status: 401,
    type: 'authentication_error',
    title: 'The API key has expired',
    retry: 'never',
    remedy: 'Ask an administrator for a new key.',
  },
  token_expired: {
    status: 401,
    type: 'authentication_error',
    title: 'The access token has expired',
    retry: 'never',
    remedy: 'Get a new token: POST /v1/tokens, or from the issuer that made it.',
  },
  token_revoked: {
    status: 401,
    type: 'authentication_error',
    title: 'The access token was revoked',
    retry: 'never',
    remedy: 'Get a new token: POST /v1/tokens, or from the issuer that made it.',
  },
  issuer_unavailable: {
    status: 503,
    type: 'server_error',
    title: "The keys of the token's issuer cannot be read at the moment",
    retry: 'later',
    remedy: 'Wait for the time in Retry-After, and see that the JWKS URL of the issuer answers.',
  },
  permission_denied: {
    status: 403,
    type: 'permission_error',
    title: 'The key may not do this',
    retry: 'never',
    remedy: 'Use a key whose role and scopes allow it.',
  },
  ip_not_allowed: {
    status: 403,
    type: 'permission_error',
    title: 'The key may not be used from this address',
    retry: 'never',
    remedy: "Call from a network of the key's `allowed_ips`, or have it added there.",
  },
  tenant_suspended: {
    status: 403,
    type: 'permission_error',
    title: 'The tenant is suspended',
    retry: 'never',
    remedy: 'Contact the operator of this platform.',
  },
  // Limits
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    title: 'Too many requests',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  request_exceeds_limit: {
    status: 429,
    type: 'rate_limit_error',
    title: 'The request is larger than a limit allows at once',
    retry: 'never',
    remedy:
      'Ask for fewer tokens (`max_tokens`, `n`, a shorter input), or have the limit raised; waiting does not help.',
  },
  limits_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'Limits cannot be checked',
    retry: 'later',
    remedy:
      'Wait for the time in Retry-After; the platform does not answer this request without checking its limits.',
  },
  insufficient_quota: {
    status: 429,
    type: 'insufficient_quota',
    title: 'The budget is spent',
    retry: 'never',
    remedy: 'Raise the budget or wait for its next window.',
  },
  target_not_priced: {
    status: 429,
    type: 'insufficient_quota',
    title: 'The target has no price, and a hard budget is set',
    retry: 'never',
    remedy: 'Ask the operator to price the target.',
  },
  overloaded: {
    status: 503,
    type: 'server_error',
    title: 'The platform is overloaded',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  ...providerErrors,
  // Ours
  draining: {
    status: 503,
    type: 'server_error',
    title: 'This process is shutting down',
    retry: 'now',
    remedy: 'Send the request again.',
  },
  starting: {
    status: 503,
    type: 'server_error',
    title: 'This process is starting',
    retry: 'later',
    remedy: 'Wait for /readyz to answer 200.',
  },
  metering_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'Usage cannot be recorded at the moment',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  database_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'The database cannot be reached',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  cache_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'The store that the processes share cannot be reached',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After.',
  },
  deadline_exceeded: {
    status: 504,
    type: 'server_error',
    title: 'The platform did not finish in time',
    retry: 'later',
    remedy: 'Try again.',
  },
  role_unavailable: {
    status: 503,
    type: 'server_error',
    title: 'A part of the platform is away',
    retry: 'later',
    remedy: 'Wait for the time in Retry-After; the message and the header x-stoa-role name the part.',
  },
  invalid_cluster_signature: {
    status: 401,
    type: 'authentication_error',
    title: 'The caller did not prove to be a process of this cluster',
    retry: 'never',
    remedy: 'Give every process the same STOA_CLUSTER_SECRET, and keep their clocks within 30 seconds.',
  },
  client_closed: {
    status: 499,
    type: invalid,
    title: 'The client went away',
    retry: 'never',
    remedy: 'None: nobody reads this.',
  },
  internal_error: {
    status: 500,
    type: 'server_error',
    title: 'Something went wrong on our side',
    retry: 'later',
    remedy: 'Try again; give the request id when you report it.',
  },
  event_refused: {
    status: 500,
    type: 'server_error',
    title: 'An event does not fit its schema and was not written, nor was the change that it tells',
    retry: 'never',
    remedy: 'Report it with the path in `param`; the fault is in Stoa.',
  },
  // Start-up and commands; never sent over HTTP, listed so that one table explains every code
  invalid_configuration: {
    status: 500,
    type: 'server_error',
    title: 'The configuration has faults',
    retry: 'never',
    remedy: 'Correct every line of the report and start again.',
  },
  data_directory_locked: {
    status: 500,
    type: 'server_error',
    title: 'Another process uses the data directory',
    retry: 'never',
    remedy: 'Stop the process that the message names, or choose another STOA_DATA_DIR.',
  },
  address_unavailable: {
    status: 500,
    type: 'server_error',
    title: 'An address to listen on cannot be taken',
    retry: 'never',
    remedy: 'Stop what listens there, or choose another address with the setting that the message names.',
  },
  migration_changed: {
    status: 500,
    type: 'server_error',
    title: 'A migration that was applied has been changed',
    retry: 'never',
    remedy: 'Restore the file; write a new migration for a new change.',
  },
  migration_waits: {
    status: 503,
    type: 'server_error',
    title: 'A migration waits for processes or transactions of others',
    retry: 'later',
    remedy: 'End what the message names, or wait for its end, and run the command again.',
  },
  schema_behind: {
    status: 503,
    type: 'server_error',
    title: 'The database schema is older than this version needs',
    retry: 'later',
    remedy: 'Run `stoa db migrate`; the process goes on by itself.',
  },
  schema_ahead: {
    status: 503,
    type: 'server_error',
    title: 'The database schema is newer than this version serves',
    retry: 'later',
    remedy: 'Run the newer version of Stoa.',
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

/** True where `value` is a code of the table. */
export function isErrorCode(value: string): value is ErrorCode {
  return Object.hasOwn(errorTable, value);
}

/** The body of every error answer: RFC 9457's members, and OpenAI's `error` object beside them. */
export interface ErrorBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

/**
 * The one error body of Stoa.
 * @param message what the caller reads; must be safe to show
 * @param param the field at fault in OpenAI's notation (`messages[0].role`), or null
 */
export function errorBody(code: ErrorCode, message: string, param: string | null = null): ErrorBody {
  const row: ErrorRow = errorTable[code];
  return {
    type: `/errors/${code}`,
    title: row.title,
    status: row.status,
    detail: message,
    error: { message, type: row.type, param, code },
  };
}
