import type { StoaError } from '@stoa/sdk';
import type { Connection } from './connection.ts';

export const exitCodes = { failure: 1, usage: 2, configuration: 78, interrupted: 130 } as const;

/** A failure that a person can do something about: what happened, and what to do. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exitCode: number;
  readonly code: string;
  /** One sentence that says what to do, or null where the message says it. */
  readonly advice: string | null;
  readonly status: number | null;
  readonly param: string | null;
  readonly requestId: string | null;

  constructor(fields: {
    readonly code: string;
    readonly message: string;
    readonly advice?: string | null;
    readonly exitCode?: number;
    readonly status?: number | null;
    readonly param?: string | null;
    readonly requestId?: string | null;
    readonly cause?: unknown;
  }) {
    super(fields.message, { cause: fields.cause });
    this.code = fields.code;
    this.advice = fields.advice ?? null;
    this.exitCode = fields.exitCode ?? exitCodes.failure;
    this.status = fields.status ?? null;
    this.param = fields.param ?? null;
    this.requestId = fields.requestId ?? null;
  }
}

/** The failure as one JSON value, for `--json`. */
export function failureJson(failure: CommandFailure): string {
  const { code, message, advice, status, param, requestId } = failure;
  return JSON.stringify({ error: { code, message, advice, status, param, request_id: requestId } });
}

export function configurationFailure(message: string, advice: string | null = null): CommandFailure {
  return new CommandFailure({
    code: 'invalid_configuration',
    message,
    advice,
    exitCode: exitCodes.configuration,
  });
}

export function usageFailure(message: string, advice: string | null = null): CommandFailure {
  return new CommandFailure({ code: 'usage', message, advice, exitCode: exitCodes.usage });
}

/** What a call over `connection` failed with, and what to do about it. Never names the key, only where it came from. */
export function failureOfCall(error: StoaError, connection: Connection): CommandFailure {
  const retry =
    error.retryAfterSeconds === null ? '' : ` Try again in ${Math.ceil(error.retryAfterSeconds)} s.`;
  return new CommandFailure({
    code: error.code,
    message:
      error.param === null || error.message.includes(error.param)
        ? error.message
        : `${error.message} (${error.param})`,
    advice: `${adviceOf(error, connection)}${retry}`.trim() || null,
    exitCode: error.code === 'invalid_argument' ? exitCodes.usage : exitCodes.failure,
    status: error.status,
    param: error.param,
    requestId: error.requestId,
    cause: error,
  });
}

function adviceOf(error: StoaError, connection: Connection): string {
  const { kind, url, key } = connection;
  const urlVariable = kind === 'operator' ? 'STOA_ADMIN_URL' : 'STOA_URL';
  const usedKey = `The key used is the ${kind === 'operator' ? "operator's" : "tenant's"} from ${key.origin}.`;
  switch (error.code) {
    case 'connection_failed':
      return `Is the server running? Start it with npm start, or set ${urlVariable} (now ${url.value}, from ${url.origin}).`;
    case 'unexpected_answer':
      return `Check ${urlVariable} (now ${url.value}, from ${url.origin}).`;
    case 'invalid_api_key':
    case 'key_revoked':
    case 'key_expired':
      return `${usedKey} Give another with --key or STOA_KEY.`;
    case 'permission_denied':
      return `${usedKey} It needs a wider role or scope.`;
    case 'tenant_suspended':
      return `${usedKey} The operator can serve the tenant again: stoa tenants resume <tenant>.`;
    case 'model_not_found':
      return 'See what there is: stoa models list.';
    default:
      return '';
  }
}
