import {
  changeKey,
  changeWebhook,
  createChatCompletion,
  createEmbeddings,
  createKey,
  createWebhook,
  deleteWebhook,
  exportOwnAuditEntries,
  getReadiness,
  listKeys,
  listOwnAuditEntries,
  listOwnDeadLetters,
  listModels,
  listRequests,
  listWebhookDeliveries,
  listWebhooks,
  ownAuditEntry,
  type OwnAuditEntryObject,
  readKey,
  readKeyLimits,
  readKeyPolicy,
  readOwnLimits,
  readModel,
  readOwnDeadLetter,
  readRequest,
  readTenantPolicy,
  readUsage,
  readWebhook,
  readWebhookDelivery,
  redeliverWebhook,
  replaceKeyLimits,
  replaceKeyPolicy,
  replaceTenantPolicy,
  revokeKey,
  rotateKey,
  rotateWebhookSecret,
  testWebhook,
} from '@stoa/contracts';
import { type AccessClient, accessOf } from './access-clients.ts';
import { createChatStream, type ChatStream } from './chat-stream.ts';
import type { BodyOf, QueryOf, ResultOf } from './endpoint-types.ts';
import { linesOf } from './line-stream.ts';
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
  /** `stoa_sk_...`, or an access token */
  readonly apiKey: string;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Deadline of a call in milliseconds, but for chat and embeddings; default 60000. */
  readonly timeoutMs?: number;
}

type Chat = BodyOf<typeof createChatCompletion>;

/** What a tenant's key can do. Every method throws `StoaError`; lists are read when they are iterated. */
export interface TenantClient extends Pick<Transport, 'call' | 'exchange' | 'send'>, AccessClient {
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
    /** A new secret under the same id; the answer holds it, this once. The present one is accepted for the overlap. */
    rotate(
      id: string,
      body?: BodyOf<typeof rotateKey>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof rotateKey>>;
    /** For good; effective within one second. */
    revoke(id: string, options?: CallOptions): Promise<ResultOf<typeof revokeKey>>;
  };
  /** How long keys may live. */
  readonly keyPolicy: {
    read(options?: CallOptions): Promise<ResultOf<typeof readKeyPolicy>>;
    replace(
      body: BodyOf<typeof replaceKeyPolicy>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceKeyPolicy>>;
  };
  /** Rate limits. */
  readonly limits: {
    /** The tenant's, which the operator sets. */
    read(options?: CallOptions): Promise<ResultOf<typeof readOwnLimits>>;
    readKey(keyId: string, options?: CallOptions): Promise<ResultOf<typeof readKeyLimits>>;
    /** A key's own hold beside those of the tenant. */
    replaceKey(
      keyId: string,
      body: BodyOf<typeof replaceKeyLimits>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceKeyLimits>>;
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
  /** Where the tenant's events are sent. */
  readonly webhooks: {
    /** The answer holds the secret, which is shown this once; see `verifyWebhook`. */
    create(
      body: BodyOf<typeof createWebhook>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof createWebhook>>;
    /** Newest first. */
    list(query?: QueryOf<typeof listWebhooks>, options?: CallOptions): Listing<ResultOf<typeof listWebhooks>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readWebhook>>;
    change(
      id: string,
      body: BodyOf<typeof changeWebhook>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeWebhook>>;
    /** With its deliveries. */
    remove(id: string, options?: CallOptions): Promise<void>;
    /** A new secret; the answer holds it, this once. For the overlap messages are signed with both. */
    rotateSecret(
      id: string,
      body?: BodyOf<typeof rotateWebhookSecret>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof rotateWebhookSecret>>;
    /** Sends a test message now. */
    test(id: string, options?: CallOptions): Promise<ResultOf<typeof testWebhook>>;
    readonly deliveries: {
      /** Newest first. */
      list(
        id: string,
        query?: QueryOf<typeof listWebhookDeliveries>,
        options?: CallOptions,
      ): Listing<ResultOf<typeof listWebhookDeliveries>>;
      read(
        id: string,
        deliveryId: string,
        options?: CallOptions,
      ): Promise<ResultOf<typeof readWebhookDelivery>>;
      redeliver(
        id: string,
        deliveryId: string,
        options?: CallOptions,
      ): Promise<ResultOf<typeof redeliverWebhook>>;
    };
  };
  /** What was changed and denied in the tenant, also by the operator. */
  readonly audit: {
    /** Newest first. */
    list(
      query?: QueryOf<typeof listOwnAuditEntries>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listOwnAuditEntries>>;
    /** All of them that the query names, in one call that goes on while they are taken. */
    export(
      query?: QueryOf<typeof exportOwnAuditEntries>,
      options?: CallOptions,
    ): AsyncIterable<OwnAuditEntryObject>;
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
      rotate: (id, body = {}, given = {}) => call(rotateKey, { ...given, params: { id }, body }),
      revoke: (id, given) => call(revokeKey, { ...given, params: { id } }),
    },
    ...accessOf(transport),
    keyPolicy: keyPolicyOf(transport),
    limits: limitsOf(transport),
    audit: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listOwnAuditEntries, { ...given, query: following(query, after) })),
      export(query = {}, given = {}) {
        const input = { timeoutMs: null, ...given, query };
        const open = (): Promise<Response> => transport.open(exportOwnAuditEntries, input);
        return linesOf(open, ownAuditEntry, (step) => translated(options.baseUrl, input, step));
      },
    },
    deadLetters: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listOwnDeadLetters, { ...given, query: following(query, after) })),
      read: (id, given) => call(readOwnDeadLetter, { ...given, params: { id } }),
    },
    webhooks: webhooksOf(transport),
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

function keyPolicyOf({ call }: Transport): TenantClient['keyPolicy'] {
  return {
    read: (given = {}) => call(readKeyPolicy, given),
    replace: (body, given) => call(replaceKeyPolicy, { ...given, body }),
  };
}

function limitsOf({ call }: Transport): TenantClient['limits'] {
  return {
    read: (given = {}) => call(readOwnLimits, given),
    readKey: (id, given) => call(readKeyLimits, { ...given, params: { id } }),
    replaceKey: (id, body, given) => call(replaceKeyLimits, { ...given, params: { id }, body }),
  };
}

function webhooksOf({ call, send }: Transport): TenantClient['webhooks'] {
  return {
    create: (body, given) => call(createWebhook, { ...given, body }),
    list: (query = {}, given = {}) =>
      createListing((after) => call(listWebhooks, { ...given, query: following(query, after) })),
    read: (id, given) => call(readWebhook, { ...given, params: { id } }),
    change: (id, body, given) => call(changeWebhook, { ...given, params: { id }, body }),
    remove: (id, given) => send(deleteWebhook, { ...given, params: { id } }),
    rotateSecret: (id, body = {}, given = {}) =>
      call(rotateWebhookSecret, { ...given, params: { id }, body }),
    test: (id, given) => call(testWebhook, { ...given, params: { id }, body: {} }),
    deliveries: {
      list: (id, query = {}, given = {}) =>
        createListing((after) =>
          call(listWebhookDeliveries, { ...given, params: { id }, query: following(query, after) }),
        ),
      read: (id, deliveryId, given) =>
        call(readWebhookDelivery, { ...given, params: { id, delivery_id: deliveryId } }),
      redeliver: (id, deliveryId, given) =>
        call(redeliverWebhook, { ...given, params: { id, delivery_id: deliveryId }, body: {} }),
    },
  };
}
