import {
  changeKey,
  createChatCompletion,
  createEmbeddings,
  createKey,
  getReadiness,
  listKeys,
  listOwnDeadLetters,
  listModels,
  listRequests,
  readKey,
  readModel,
  readOwnDeadLetter,
  readRequest,
  readTenantPolicy,
  readUsage,
  replaceTenantPolicy,
  revokeKey,
} from '@stoa/contracts';
import { createChatStream, type ChatStream } from './chat-stream.ts';
import type { BodyOf, QueryOf, ResultOf } from './endpoint-types.ts';
import { createListing, following, type Listing } from './listing.ts';
import {
  type Answer,
  type CallOptions,
  createTransport,
  namesOf,
  type Transport,
  translated,
} from './transport.ts';

export interface TenantClientOptions {
  /** The tenants' listener: `http://127.0.0.1:8080`. */
  readonly baseUrl: string;
  /** `stoa_sk_...` */
  readonly apiKey: string;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Deadline of a call in milliseconds, but for chat and embeddings; default 60000. */
  readonly timeoutMs?: number;
}

type Chat = BodyOf<typeof createChatCompletion>;

/** What a tenant's key can do. Every method throws `StoaError`; lists are read when they are iterated. */
export interface TenantClient extends Pick<Transport, 'call' | 'exchange' | 'send'> {
  readonly chat: {
    /**
     * The answer in one piece. It has no deadline of its own; the server's is 600 s, and Node's own `fetch` gives up
     * after 300 s without an answer: stream what may take longer.
     */
    create(
      body: Chat & { stream?: false | null },
      options?: CallOptions,
    ): Promise<Answer<ResultOf<typeof createChatCompletion>>>;
    /** The answer as it is made. Resolves when the server has begun to answer. */
    stream(
      body: Omit<Chat, 'stream'> & Pick<Chat, 'model' | 'messages'>,
      options?: CallOptions,
    ): Promise<ChatStream>;
  };
  readonly embeddings: {
    create(
      body: BodyOf<typeof createEmbeddings>,
      options?: CallOptions,
    ): Promise<Answer<ResultOf<typeof createEmbeddings>>>;
  };
  readonly models: {
    list(options?: CallOptions): Promise<ResultOf<typeof listModels>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readModel>>;
  };
  readonly requests: {
    /** Newest first. */
    list(query?: QueryOf<typeof listRequests>, options?: CallOptions): Listing<ResultOf<typeof listRequests>>;
    /** The explanation of one request. */
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readRequest>>;
  };
  readonly usage: {
    /** One page of groups, with the sums over all groups. */
    read(query?: QueryOf<typeof readUsage>, options?: CallOptions): Promise<ResultOf<typeof readUsage>>;
    /** The groups of all pages. */
    list(query?: QueryOf<typeof readUsage>, options?: CallOptions): Listing<ResultOf<typeof readUsage>>;
  };
  readonly keys: {
    /** The answer holds the plaintext, which is shown this once. */
    create(body: BodyOf<typeof createKey>, options?: CallOptions): Promise<ResultOf<typeof createKey>>;
    list(query?: QueryOf<typeof listKeys>, options?: CallOptions): Listing<ResultOf<typeof listKeys>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readKey>>;
    change(
      id: string,
      body: BodyOf<typeof changeKey>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeKey>>;
    /** For good; effective within one second. */
    revoke(id: string, options?: CallOptions): Promise<ResultOf<typeof revokeKey>>;
  };
  /** The tenant's own events that could not be handled. */
  readonly deadLetters: {
    /** Newest first. */
    list(
      query?: QueryOf<typeof listOwnDeadLetters>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listOwnDeadLetters>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readOwnDeadLetter>>;
  };
  readonly policy: {
    read(options?: CallOptions): Promise<ResultOf<typeof readTenantPolicy>>;
    replace(
      body: BodyOf<typeof replaceTenantPolicy>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceTenantPolicy>>;
  };
  /** Whether the server takes traffic, and which dependencies it has lost. */
  readiness(options?: CallOptions): Promise<ResultOf<typeof getReadiness>>;
}

/** @throws {StoaError} `invalid_argument` where the base URL is none */
export function createTenantClient(options: TenantClientOptions): TenantClient {
  const transport = createTransport({ ...options, key: options.apiKey });
  const { call, exchange, send } = transport;
  return {
    call,
    exchange,
    send,
    chat: chatOf(transport, options.baseUrl),
    embeddings: {
      create: (body, given) => exchange(createEmbeddings, { timeoutMs: null, ...given, body }),
    },
    models: {
      list: (given = {}) => call(listModels, given),
      read: (id, given) => call(readModel, { ...given, params: { id } }),
    },
    requests: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listRequests, { ...given, query: following(query, after) })),
      read: (id, given) => call(readRequest, { ...given, params: { id } }),
    },
    usage: {
      read: (query = {}, given = {}) => call(readUsage, { ...given, query }),
      list: (query = {}, given = {}) =>
        createListing((after) => call(readUsage, { ...given, query: following(query, after) })),
    },
    keys: {
      create: (body, given) => call(createKey, { ...given, body }),
      list: (query = {}, given = {}) =>
        createListing((after) => call(listKeys, { ...given, query: following(query, after) })),
      read: (id, given) => call(readKey, { ...given, params: { id } }),
      change: (id, body, given) => call(changeKey, { ...given, params: { id }, body }),
      revoke: (id, given) => call(revokeKey, { ...given, params: { id } }),
    },
    deadLetters: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listOwnDeadLetters, { ...given, query: following(query, after) })),
      read: (id, given) => call(readOwnDeadLetter, { ...given, params: { id } }),
    },
    policy: {
      read: (given = {}) => call(readTenantPolicy, given),
      replace: (body, given) => call(replaceTenantPolicy, { ...given, body }),
    },
    readiness: (given = {}) => call(getReadiness, given),
  };
}

function chatOf(transport: Transport, baseUrl: string): TenantClient['chat'] {
  return {
    create: (body, given) => transport.exchange(createChatCompletion, { timeoutMs: null, ...given, body }),
    async stream(body, given = {}) {
      const input = { timeoutMs: null, ...given, body: { ...body, stream: true } };
      const answer = await transport.open(createChatCompletion, input);
      return createChatStream(answer, namesOf(answer), (step) => translated(baseUrl, input, step));
    },
  };
}
