/**
 * The port to models. Every provider, whatever its own protocol, answers in OpenAI's wire format as bytes: one JSON
 * body, or server-sent events that end in `data: [DONE]`. So the gateway has one relay, and an OpenAI-compatible
 * upstream's bytes pass through as they came.
 */
export type ProviderKind = 'openai-compatible' | 'anthropic' | 'extractive' | 'scripted';
export type TargetKind = 'chat' | 'embedding';

/** Where and how to reach one provider account. The credential is decrypted in memory and never logged. */
export interface ProviderConnection {
  readonly id: string;
  readonly kind: ProviderKind;
  /** With its `/v1`, without a trailing slash; empty for engines in this process. */
  readonly baseUrl: string;
  readonly credential: string | null;
  readonly headers: Readonly<Record<string, string>>;
  /** Names the breaker, with the model: changes when the credential does. */
  readonly credentialId: string;
  /** Simultaneous calls of one process to it; what is over waits up to a second, then goes to the next target. */
  readonly maxConcurrency: number;
}

/** What a request can be routed to. `id` is what tenants write in `model`. */
export interface Target {
  readonly id: string;
  readonly kind: TargetKind;
  /** The provider's own name of the model. */
  readonly model: string;
  readonly provider: ProviderConnection;
  readonly isGenerative: boolean;
  readonly contextTokens: number | null;
  readonly maxOutputTokens: number | null;
  /** Milliseconds; defaults 600_000, 120_000, 60_000 (design, section 10). */
  readonly deadlines: {
    readonly wholeMs: number;
    readonly firstFrameMs: number;
    readonly betweenFramesMs: number;
  };
  /** Unix seconds, for OpenAI's model list. */
  readonly createdAt: number;
  readonly ownedBy: string;
  readonly source: 'settings' | 'file' | 'api' | 'built-in';
  /** How the price book may know it: provider hint (may be null) and model name. */
  readonly priceKey: { readonly provider: string | null; readonly model: string };
}

export type ModelOperation = 'chat.completions' | 'embeddings';

/** One call of one target: one attempt. */
export interface ModelCall {
  readonly operation: ModelOperation;
  readonly target: Target;
  /** The JSON body in OpenAI's format, already rewritten for this target (model name, stream_options, output limit). */
  readonly body: Buffer;
  /** The same body parsed once by the gateway, as the client sent it; read-only. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly stream: boolean;
  /** The likely number of input tokens, for the engines of this process, which have no tokenizer. */
  readonly inputTokensEstimate: number;
  readonly traceparent: string;
  /** `req_...` for providers that take a client request id. */
  readonly publicRequestId: string;
}

/**
 * What went wrong at a provider. `kind` decides status, retry and breaker:
 * unreachable, status (5xx and unexpected ones), unreadable, empty, throttled, credential (401/403), rejected (the
 * client's fault: 400, 404, 413, 422), cut (the connection ended early), cancelled (we asked for it).
 */
export interface ProviderFault {
  readonly kind:
    | 'unreachable'
    | 'status'
    | 'unreadable'
    | 'empty'
    | 'throttled'
    | 'credential'
    | 'rejected'
    | 'cut'
    | 'error_frame'
    | 'timeout'
    | 'cancelled';
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  /** For `rejected`: OpenAI's code and param where the provider gave one, and a message that is safe to show. */
  readonly rejection: {
    readonly code: string | null;
    readonly param: string | null;
    readonly message: string;
  } | null;
  /** For the log and the operator's eyes only. At most 500 characters. */
  readonly detail: string;
  readonly providerRequestId: string | null;
}

/** Receives the answer. Calls come in order: onHead, onData..., then exactly one of onEnd and onFault. */
export interface AnswerSink {
  /** A 2xx head came. `contentType` is lower case without parameters. */
  onHead(head: {
    readonly status: number;
    readonly contentType: string;
    readonly providerRequestId: string | null;
  }): void;
  /** Bytes of the body in OpenAI's wire format. Returning false asks for a pause until `resume()`. */
  onData(chunk: Buffer): boolean;
  onEnd(): void;
  onFault(fault: ProviderFault): void;
}

/** A running call. */
export interface ModelExchange {
  /** Ends the call at the provider at once; the sink gets `cancelled` unless it was told an end already. */
  cancel(): void;
  resume(): void;
}

export interface ListedModel {
  readonly id: string;
  readonly createdAt: number;
  readonly ownedBy: string;
}

export interface ModelProvider {
  readonly kind: ProviderKind;
  /** Never throws; faults come to the sink, also before this returns never synchronously (at least one microtask later). */
  call(call: ModelCall, sink: AnswerSink): ModelExchange;
  /** The models an account offers, at most 5,000. Rejects with an AppError. Absent where the provider has no list. */
  listModels?(connection: ProviderConnection, signal: AbortSignal): Promise<readonly ListedModel[]>;
  close(): Promise<void>;
}

/** The providers by kind; what the gateway and the registry are handed. */
export type ModelProviders = ReadonlyMap<ProviderKind, ModelProvider>;
