import type { Endpoint } from '@stoa/contracts';
import type { z } from 'zod';
import { addressOf, errorOfAnswer, parsedJson, StoaError } from './error.ts';

export interface TransportSettings {
  /** Where the server is: `http://127.0.0.1:8080`; a `/v1` at its end is dropped, since paths bring their own. */
  readonly baseUrl: string;
  /** Sent as `Authorization: Bearer`; never part of an error. */
  readonly key: string;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** How long a call may take, in milliseconds, but for chat and embeddings; default 60000. */
  readonly timeoutMs?: number;
}

export interface CallOptions {
  /** Ends the call; its reason is what the call then rejects with. */
  readonly signal?: AbortSignal;
  /** Deadline of this call in milliseconds; `null` for none. Passing it rejects with the code `client_timeout`. */
  readonly timeoutMs?: number | null;
  /** For creating calls: the same key within 24 hours gives the first answer again instead of a second thing. */
  readonly idempotencyKey?: string;
  /** For changing calls: refused with `version_conflict` where the resource has another version by now. */
  readonly ifVersion?: number;
  /** More headers, such as `x-client-request-id` or `x-stoa-timeout-ms`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** An input is asked for where the endpoint declares one, may be left out where it is a query, and is refused elsewhere. */
export type CallInput<
  Params extends z.ZodType,
  Query extends z.ZodType,
  Body extends z.ZodType,
> = CallOptions &
  ([Params] extends [z.ZodNever] ? { readonly params?: undefined } : { readonly params: z.input<Params> }) &
  ([Query] extends [z.ZodNever] ? { readonly query?: undefined } : { readonly query?: QueryInput<Query> }) &
  ([Body] extends [z.ZodNever] ? { readonly body?: undefined } : { readonly body: z.input<Body> });

/** What a query may hold: the values as the server reads them, each of them optional. */
export type QueryInput<Query extends z.ZodType> = {
  readonly [Name in keyof z.output<Query>]?: z.output<Query>[Name] | undefined;
};

export interface Answer<Output> {
  readonly body: Output;
  readonly status: number;
  /** Names this call in the server's logs; for chats it is the id to ask an explanation with. */
  readonly requestId: string | null;
  /** Which target answered a chat or an embedding. */
  readonly target: string | null;
}

export interface Transport {
  /**
   * Calls any endpoint of the contracts. Resolves with the body, checked against the endpoint's schema.
   * @throws {StoaError} for every answer that is no success, and where no answer comes
   */
  readonly call: <Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType, Output>(
    endpoint: Endpoint<Params, Query, Body, Output>,
    input: CallInput<Params, Query, Body>,
  ) => Promise<Output>;
  /** Like `call`, with the status and the names that the headers carry. */
  readonly exchange: <Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType, Output>(
    endpoint: Endpoint<Params, Query, Body, Output>,
    input: CallInput<Params, Query, Body>,
  ) => Promise<Answer<Output>>;
  /** For endpoints that answer without a body. */
  readonly send: <Params extends z.ZodType, Query extends z.ZodType, Body extends z.ZodType>(
    endpoint: Endpoint<Params, Query, Body>,
    input: CallInput<Params, Query, Body>,
  ) => Promise<void>;
  /** The answer before its body is read, when it is a success. For streams. */
  readonly open: (endpoint: Endpoint, input: RawInput) => Promise<Response>;
}

export interface RawInput extends CallOptions {
  readonly params?: unknown;
  readonly query?: unknown;
  readonly body?: unknown;
}

const defaultTimeoutMs = 60_000;

export function createTransport(settings: TransportSettings): Transport {
  const root = rootOf(settings.baseUrl);
  const doFetch = settings.fetch ?? globalThis.fetch;
  const defaultDeadlineMs = settings.timeoutMs ?? defaultTimeoutMs;

  const open = async (endpoint: Endpoint, input: RawInput): Promise<Response> => {
    const url = urlOf(root, endpoint, input);
    const deadlineMs = input.timeoutMs === undefined ? defaultDeadlineMs : input.timeoutMs;
    const signal = signalOf(input.signal, deadlineMs);
    const request: RequestInit = {
      method: endpoint.method,
      headers: headersOf(settings.key, input),
      ...(input.body === undefined ? {} : { body: JSON.stringify(input.body) }),
      ...(signal === null ? {} : { signal }),
    };
    const answer = await translated(root, input, () => doFetch(url, request));
    if (answer.ok) return answer;
    throw errorOfAnswer(answer, await translated(root, input, () => answer.text()));
  };

  const exchange: Transport['exchange'] = async (endpoint, input) => {
    const answer = await open(endpoint, input);
    const text = await translated(root, input, () => answer.text());
    const schema = endpoint.responses[answer.status]?.schema;
    const checked = schema?.safeParse(parsedJson(text));
    if (checked?.success !== true) {
      throw new StoaError({
        status: answer.status,
        code: 'unexpected_answer',
        message: `${addressOf(answer)} answered ${endpoint.id} in a shape that this version does not know.`,
        requestId: answer.headers.get('x-request-id'),
        cause: checked?.error,
      });
    }
    return { body: checked.data, status: answer.status, ...namesOf(answer) };
  };

  return {
    open,
    exchange,
    call: async (endpoint, input) => (await exchange(endpoint, input)).body,
    send: async (endpoint, input) => {
      const answer = await open(endpoint, input);
      await translated(root, input, () => answer.arrayBuffer());
    },
  };
}

/** What the headers of an answer tell. */
export function namesOf(answer: Response): { requestId: string | null; target: string | null } {
  return {
    requestId: answer.headers.get('x-request-id'),
    target: answer.headers.get('x-stoa-target'),
  };
}

function rootOf(baseUrl: string): string {
  const isHttp = URL.canParse(baseUrl) && /^https?:$/.test(new URL(baseUrl).protocol);
  if (!isHttp)
    throw invalidArgument('The base URL must be an absolute http(s) URL, such as http://127.0.0.1:8080.');
  const url = new URL(baseUrl);
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw invalidArgument('The base URL must hold no credentials, query or fragment.');
  return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`;
}

function urlOf(root: string, endpoint: Endpoint, input: RawInput): string {
  const params = new Map(entriesOf(input.params));
  const path = endpoint.path.replace(/\{(\w+)\*?\}/g, (_, name: string) =>
    pathSegment(name, params.get(name)),
  );
  const query = new URLSearchParams(entriesOf(input.query)).toString();
  return query === '' ? `${root}${path}` : `${root}${path}?${query}`;
}

/** `.` and `..` would be taken out of the path by every URL parser, and another endpoint would be called. */
function pathSegment(name: string, value: string | undefined): string {
  if (value === undefined || value === '' || value === '.' || value === '..')
    throw invalidArgument(`The parameter ${name} is missing or no name: ${JSON.stringify(value ?? '')}.`);
  return encodeURIComponent(value);
}

function entriesOf(values: unknown): [string, string][] {
  if (typeof values !== 'object' || values === null) return [];
  const entries: [string, unknown][] = Object.entries(values);
  return entries.flatMap(([name, value]): [string, string][] => {
    if (typeof value === 'string') return [[name, value]];
    if (typeof value === 'number' || typeof value === 'boolean') return [[name, String(value)]];
    return [];
  });
}

function headersOf(key: string, input: RawInput): Record<string, string> {
  return {
    ...input.headers,
    accept: 'application/json',
    authorization: `Bearer ${key}`,
    ...(input.body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(input.idempotencyKey === undefined ? {} : { 'idempotency-key': input.idempotencyKey }),
    ...(input.ifVersion === undefined ? {} : { 'if-match': `"${input.ifVersion}"` }),
  };
}

function signalOf(own: AbortSignal | undefined, deadlineMs: number | null): AbortSignal | null {
  if (deadlineMs === null) return own ?? null;
  const deadline = AbortSignal.timeout(deadlineMs);
  return own === undefined ? deadline : AbortSignal.any([own, deadline]);
}

/** Runs a step of a call; the caller's own abort is passed on, every other failure becomes a `StoaError`. */
export async function translated<Result>(
  root: string,
  input: Pick<RawInput, 'signal' | 'timeoutMs'>,
  step: () => Promise<Result>,
): Promise<Result> {
  try {
    return await step();
  } catch (cause) {
    input.signal?.throwIfAborted();
    if (cause instanceof StoaError) throw cause;
    if (cause instanceof DOMException && cause.name === 'TimeoutError') {
      throw new StoaError({
        status: null,
        code: 'client_timeout',
        message: `${root} did not answer in time.`,
        cause,
      });
    }
    throw new StoaError({
      status: null,
      code: 'connection_failed',
      message: `${root} cannot be reached (${reasonOf(cause)}).`,
      cause,
    });
  }
}

/** The innermost code or message: `fetch failed` alone tells nobody anything. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error.cause === undefined ? error.message : reasonOf(error.cause);
}

function invalidArgument(message: string): StoaError {
  return new StoaError({ status: null, code: 'invalid_argument', message });
}
