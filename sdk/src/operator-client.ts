import {
  auditEntry,
  type AuditEntryObject,
  changeControlModel,
  changeProvider,
  changeTenant,
  changeTenantKey,
  createControlModel,
  createEventReplay,
  createProvider,
  createTenant,
  createTenantKey,
  deleteControlModel,
  deleteProvider,
  deleteTenant,
  discardDeadLetters,
  exportAuditEntries,
  followEvents,
  importPrices,
  listAuditEntries,
  listControlModels,
  listDeadLetters,
  listJobRuns,
  listJobs,
  listPrices,
  listProviders,
  listTenantKeys,
  listTenants,
  overridePrice,
  readControlModel,
  readDeadLetter,
  readEventReplay,
  readJobRun,
  readOperatorPolicy,
  readProvider,
  readTenant,
  readTenantKey,
  readTenantKeyPolicy,
  readTenantLimits,
  redriveDeadLetters,
  removePriceOverride,
  replaceOperatorPolicy,
  replaceTenantKeyPolicy,
  replaceTenantLimits,
  revokeTenantKey,
  rotateTenantKey,
  runJob,
} from '@stoa/contracts';
import {
  type TenantIssuersClient,
  tenantIssuersOf,
  tenantMembersOf,
  type TenantMembersClient,
} from './access-clients.ts';
import type { BodyOf, QueryOf, ResultOf } from './endpoint-types.ts';
import { linesOf } from './line-stream.ts';
import { createListing, following, type Listing } from './listing.ts';
import { type CallOptions, createTransport, type Transport, translated } from './transport.ts';

export interface OperatorClientOptions {
  /** The operator's listener: `http://127.0.0.1:8081`. */
  readonly adminUrl: string;
  /** `stoa_op_...` */
  readonly operatorKey: string;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Deadline of a call in milliseconds; default 60000. */
  readonly timeoutMs?: number;
}

type TenantResult = ResultOf<typeof readTenant>;

/** What an operator can do. Every method throws `StoaError`; what changes a tenant or key is effective in one second. */
export interface OperatorClient extends Pick<Transport, 'call' | 'exchange' | 'send'> {
  readonly tenants: {
    create(body: BodyOf<typeof createTenant>, options?: CallOptions): Promise<TenantResult>;
    /** Newest first, of every state. */
    list(query?: QueryOf<typeof listTenants>, options?: CallOptions): Listing<ResultOf<typeof listTenants>>;
    read(id: string, options?: CallOptions): Promise<TenantResult>;
    change(id: string, body: BodyOf<typeof changeTenant>, options?: CallOptions): Promise<TenantResult>;
    /** Refuses the tenant's calls until `resume`; its running streams end with an error. `reason` goes to the audit. */
    suspend(id: string, reason?: string, options?: CallOptions): Promise<TenantResult>;
    /** Serves a suspended tenant again, and restores a deleted one before its `purge_after`. */
    resume(id: string, reason?: string, options?: CallOptions): Promise<TenantResult>;
    /** Stops its keys at once; its rows go after 30 days of grace. */
    remove(id: string, options?: CallOptions): Promise<TenantResult>;
  };
  readonly keys: {
    /** The answer holds the plaintext, which is shown this once. */
    create(
      tenantId: string,
      body: BodyOf<typeof createTenantKey>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof createTenantKey>>;
    list(
      tenantId: string,
      query?: QueryOf<typeof listTenantKeys>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listTenantKeys>>;
    read(tenantId: string, id: string, options?: CallOptions): Promise<ResultOf<typeof readTenantKey>>;
    change(
      tenantId: string,
      id: string,
      body: BodyOf<typeof changeTenantKey>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeTenantKey>>;
    /** A new secret under the same id; the answer holds it, this once. The present one is accepted for the overlap. */
    rotate(
      tenantId: string,
      id: string,
      body?: BodyOf<typeof rotateTenantKey>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof rotateTenantKey>>;
    /** For good. */
    revoke(tenantId: string, id: string, options?: CallOptions): Promise<ResultOf<typeof revokeTenantKey>>;
  };
  readonly members: TenantMembersClient;
  /** Whose tokens a tenant accepts. */
  readonly issuers: TenantIssuersClient;
  /** How long a tenant's keys may live. */
  readonly keyPolicy: {
    read(tenantId: string, options?: CallOptions): Promise<ResultOf<typeof readTenantKeyPolicy>>;
    replace(
      tenantId: string,
      body: BodyOf<typeof replaceTenantKeyPolicy>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceTenantKeyPolicy>>;
  };
  /** A tenant's rate limits. */
  readonly limits: {
    read(tenantId: string, options?: CallOptions): Promise<ResultOf<typeof readTenantLimits>>;
    replace(
      tenantId: string,
      body: BodyOf<typeof replaceTenantLimits>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceTenantLimits>>;
  };
  readonly providers: {
    create(
      body: BodyOf<typeof createProvider>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof createProvider>>;
    list(
      query?: QueryOf<typeof listProviders>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listProviders>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readProvider>>;
    change(
      id: string,
      body: BodyOf<typeof changeProvider>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeProvider>>;
    remove(id: string, options?: CallOptions): Promise<void>;
  };
  readonly models: {
    create(
      body: BodyOf<typeof createControlModel>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof createControlModel>>;
    list(
      query?: QueryOf<typeof listControlModels>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listControlModels>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readControlModel>>;
    change(
      id: string,
      body: BodyOf<typeof changeControlModel>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeControlModel>>;
    remove(id: string, options?: CallOptions): Promise<void>;
  };
  readonly prices: {
    /** Overrides first, then the price book. */
    list(query?: QueryOf<typeof listPrices>, options?: CallOptions): Listing<ResultOf<typeof listPrices>>;
    override(
      body: BodyOf<typeof overridePrice>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof overridePrice>>;
    removeOverride(id: string, options?: CallOptions): Promise<ResultOf<typeof removePriceOverride>>;
    import(body: BodyOf<typeof importPrices>, options?: CallOptions): Promise<ResultOf<typeof importPrices>>;
  };
  readonly policy: {
    read(options?: CallOptions): Promise<ResultOf<typeof readOperatorPolicy>>;
    replace(
      body: BodyOf<typeof replaceOperatorPolicy>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof replaceOperatorPolicy>>;
  };
  readonly jobs: {
    /** By name. */
    list(query?: QueryOf<typeof listJobs>, options?: CallOptions): Listing<ResultOf<typeof listJobs>>;
    /** Newest first. */
    runs(
      name: string,
      query?: QueryOf<typeof listJobRuns>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listJobRuns>>;
    readRun(name: string, id: string, options?: CallOptions): Promise<ResultOf<typeof readJobRun>>;
    /** Enqueues a run; `readRun` tells what became of it. */
    run(name: string, body?: BodyOf<typeof runJob>, options?: CallOptions): Promise<ResultOf<typeof runJob>>;
  };
  /** Events that consumers could not handle. */
  readonly deadLetters: {
    /** Newest first; dead and parked ones unless the query names a state. */
    list(
      query?: QueryOf<typeof listDeadLetters>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listDeadLetters>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readDeadLetter>>;
    /** Hands them to their consumers again; with `dry_run` it only says which. */
    redrive(
      body: BodyOf<typeof redriveDeadLetters>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof redriveDeadLetters>>;
    /** For good. The reason goes to the audit. */
    discard(
      body: BodyOf<typeof discardDeadLetters>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof discardDeadLetters>>;
  };
  readonly events: {
    /** What the log holds behind `after`, oldest first; begins at its end. `last_id` is the `after` of the next call. */
    follow(
      query?: QueryOf<typeof followEvents>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof followEvents>>;
    /** Hands a tenant's events to one consumer again. */
    replay(
      body: BodyOf<typeof createEventReplay>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof createEventReplay>>;
    readReplay(id: string, options?: CallOptions): Promise<ResultOf<typeof readEventReplay>>;
  };
  readonly audit: {
    /** Newest first. */
    list(
      query?: QueryOf<typeof listAuditEntries>,
      options?: CallOptions,
    ): Listing<ResultOf<typeof listAuditEntries>>;
    /** All of them that the query names, in one call that goes on while they are taken. */
    export(
      query?: QueryOf<typeof exportAuditEntries>,
      options?: CallOptions,
    ): AsyncIterable<AuditEntryObject>;
  };
}

/** @throws {StoaError} `invalid_argument` where the admin URL is none */
export function createOperatorClient(options: OperatorClientOptions): OperatorClient {
  const transport = createTransport({ ...options, baseUrl: options.adminUrl, key: options.operatorKey });
  const { call, exchange, send } = transport;
  return {
    call,
    exchange,
    send,
    tenants: tenantsOf(transport),
    keys: keysOf(transport),
    members: tenantMembersOf(transport),
    issuers: tenantIssuersOf(transport),
    keyPolicy: {
      read: (id, given) => call(readTenantKeyPolicy, { ...given, params: { id } }),
      replace: (id, body, given) => call(replaceTenantKeyPolicy, { ...given, params: { id }, body }),
    },
    limits: {
      read: (id, given) => call(readTenantLimits, { ...given, params: { id } }),
      replace: (id, body, given) => call(replaceTenantLimits, { ...given, params: { id }, body }),
    },
    providers: providersOf(transport),
    models: modelsOf(transport),
    prices: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listPrices, { ...given, query: following(query, after) })),
      override: (body, given) => call(overridePrice, { ...given, body }),
      removeOverride: (id, given) => call(removePriceOverride, { ...given, params: { id } }),
      import: (body, given) => call(importPrices, { ...given, body }),
    },
    policy: {
      read: (given = {}) => call(readOperatorPolicy, given),
      replace: (body, given) => call(replaceOperatorPolicy, { ...given, body }),
    },
    jobs: jobsOf(transport),
    deadLetters: deadLettersOf(transport),
    events: {
      follow: (query = {}, given = {}) => call(followEvents, { ...given, query }),
      replay: (body, given) => call(createEventReplay, { ...given, body }),
      readReplay: (id, given) => call(readEventReplay, { ...given, params: { id } }),
    },
    audit: {
      list: (query = {}, given = {}) =>
        createListing((after) => call(listAuditEntries, { ...given, query: following(query, after) })),
      export(query = {}, given = {}) {
        const input = { timeoutMs: null, ...given, query };
        const open = (): Promise<Response> => transport.open(exportAuditEntries, input);
        return linesOf(open, auditEntry, (step) => translated(options.adminUrl, input, step));
      },
    },
  };
}

function tenantsOf({ call }: Transport): OperatorClient['tenants'] {
  const change: OperatorClient['tenants']['change'] = (id, body, given) =>
    call(changeTenant, { ...given, params: { id }, body });
  const because = (reason: string | undefined): { reason?: string } =>
    reason === undefined ? {} : { reason };
  return {
    create: (body, given) => call(createTenant, { ...given, body }),
    list: (query = {}, given = {}) =>
      createListing((after) => call(listTenants, { ...given, query: following(query, after) })),
    read: (id, given) => call(readTenant, { ...given, params: { id } }),
    change,
    suspend: (id, reason, given) => change(id, { state: 'suspended', ...because(reason) }, given),
    resume: (id, reason, given) => change(id, { state: 'active', ...because(reason) }, given),
    remove: (id, given) => call(deleteTenant, { ...given, params: { id } }),
  };
}

function keysOf({ call }: Transport): OperatorClient['keys'] {
  return {
    create: (id, body, given) => call(createTenantKey, { ...given, params: { id }, body }),
    list: (id, query = {}, given = {}) =>
      createListing((after) =>
        call(listTenantKeys, { ...given, params: { id }, query: following(query, after) }),
      ),
    read: (id, keyId, given) => call(readTenantKey, { ...given, params: { id, key_id: keyId } }),
    change: (id, keyId, body, given) =>
      call(changeTenantKey, { ...given, params: { id, key_id: keyId }, body }),
    rotate: (id, keyId, body = {}, given = {}) =>
      call(rotateTenantKey, { ...given, params: { id, key_id: keyId }, body }),
    revoke: (id, keyId, given) => call(revokeTenantKey, { ...given, params: { id, key_id: keyId } }),
  };
}

function jobsOf({ call }: Transport): OperatorClient['jobs'] {
  return {
    list: (query = {}, given = {}) =>
      createListing((after) => call(listJobs, { ...given, query: following(query, after) })),
    runs: (name, query = {}, given = {}) =>
      createListing((after) =>
        call(listJobRuns, { ...given, params: { name }, query: following(query, after) }),
      ),
    readRun: (name, id, given) => call(readJobRun, { ...given, params: { name, id } }),
    run: (name, body = {}, given = {}) => call(runJob, { ...given, params: { name }, body }),
  };
}

function providersOf({ call, send }: Transport): OperatorClient['providers'] {
  return {
    create: (body, given) => call(createProvider, { ...given, body }),
    list: (query = {}, given = {}) =>
      createListing((after) => call(listProviders, { ...given, query: following(query, after) })),
    read: (id, given) => call(readProvider, { ...given, params: { id } }),
    change: (id, body, given) => call(changeProvider, { ...given, params: { id }, body }),
    remove: (id, given) => send(deleteProvider, { ...given, params: { id } }),
  };
}

function modelsOf({ call, send }: Transport): OperatorClient['models'] {
  return {
    create: (body, given) => call(createControlModel, { ...given, body }),
    list: (query = {}, given = {}) =>
      createListing((after) => call(listControlModels, { ...given, query: following(query, after) })),
    read: (id, given) => call(readControlModel, { ...given, params: { id } }),
    change: (id, body, given) => call(changeControlModel, { ...given, params: { id }, body }),
    remove: (id, given) => send(deleteControlModel, { ...given, params: { id } }),
  };
}

function deadLettersOf({ call }: Transport): OperatorClient['deadLetters'] {
  return {
    list: (query = {}, given = {}) =>
      createListing((after) => call(listDeadLetters, { ...given, query: following(query, after) })),
    read: (id, given) => call(readDeadLetter, { ...given, params: { id } }),
    redrive: (body, given) => call(redriveDeadLetters, { ...given, body }),
    discard: (body, given) => call(discardDeadLetters, { ...given, body }),
  };
}
