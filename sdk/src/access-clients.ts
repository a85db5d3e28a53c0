import {
  changeIssuer,
  changeMember,
  changeTenantIssuer,
  changeTenantMember,
  createIssuer,
  createMember,
  createTenantIssuer,
  createTenantMember,
  createToken,
  deleteIssuer,
  deleteTenantIssuer,
  listIssuers,
  listMembers,
  listTenantIssuers,
  listTenantMembers,
  readIssuer,
  readMember,
  readTenantIssuer,
  readTenantMember,
  removeMember,
  removeTenantMember,
  revokeTokens,
} from '@stoa/contracts';
import type { BodyOf, QueryOf, ResultOf } from './endpoint-types.ts';
import { createListing, following, type Listing } from './listing.ts';
import type { CallOptions, Transport } from './transport.ts';

/** Who else is inside a tenant, and what they come with: members, access tokens, outside issuers. */
export interface AccessClient {
  readonly members: {
    create(body: BodyOf<typeof createMember>, options?: CallOptions): Promise<ResultOf<typeof createMember>>;
    /** Newest first, the removed among them. */
    list(query?: QueryOf<typeof listMembers>, options?: CallOptions): Listing<ResultOf<typeof listMembers>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readMember>>;
    /** The member's keys and tokens follow within one second. */
    change(
      id: string,
      body: BodyOf<typeof changeMember>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeMember>>;
    /** For good; the member's keys and tokens end within one second. */
    remove(id: string, options?: CallOptions): Promise<ResultOf<typeof removeMember>>;
  };
  readonly tokens: {
    /** Changes the client's key for a token of at most ten minutes; another client can have it as its `apiKey`. */
    create(body?: BodyOf<typeof createToken>, options?: CallOptions): Promise<ResultOf<typeof createToken>>;
    /** Effective within one second. */
    revoke(body: BodyOf<typeof revokeTokens>, options?: CallOptions): Promise<ResultOf<typeof revokeTokens>>;
  };
  /** Whose tokens the tenant accepts. */
  readonly issuers: {
    create(body: BodyOf<typeof createIssuer>, options?: CallOptions): Promise<ResultOf<typeof createIssuer>>;
    /** Newest first. */
    list(query?: QueryOf<typeof listIssuers>, options?: CallOptions): Listing<ResultOf<typeof listIssuers>>;
    read(id: string, options?: CallOptions): Promise<ResultOf<typeof readIssuer>>;
    change(
      id: string,
      body: BodyOf<typeof changeIssuer>,
      options?: CallOptions,
    ): Promise<ResultOf<typeof changeIssuer>>;
    remove(id: string, options?: CallOptions): Promise<void>;
  };
}

export function accessOf({ call, send }: Pick<Transport, 'call' | 'send'>): AccessClient {
  return {
    members: {
      create: (body, given) => call(createMember, { ...given, body }),
      list: (query = {}, given = {}) =>
        createListing((after) => call(listMembers, { ...given, query: following(query, after) })),
      read: (id, given) => call(readMember, { ...given, params: { id } }),
      change: (id, body, given) => call(changeMember, { ...given, params: { id }, body }),
      remove: (id, given) => call(removeMember, { ...given, params: { id } }),
    },
    tokens: {
      create: (body = {}, given = {}) => call(createToken, { ...given, body }),
      revoke: (body, given) => call(revokeTokens, { ...given, body }),
    },
    issuers: {
      create: (body, given) => call(createIssuer, { ...given, body }),
      list: (query = {}, given = {}) =>
        createListing((after) => call(listIssuers, { ...given, query: following(query, after) })),
      read: (id, given) => call(readIssuer, { ...given, params: { id } }),
      change: (id, body, given) => call(changeIssuer, { ...given, params: { id }, body }),
      remove: (id, given) => send(deleteIssuer, { ...given, params: { id } }),
    },
  };
}

/** The operator's view of the members of any tenant. */
export interface TenantMembersClient {
  create(
    tenantId: string,
    body: BodyOf<typeof createTenantMember>,
    options?: CallOptions,
  ): Promise<ResultOf<typeof createTenantMember>>;
  /** Newest first, the removed among them. */
  list(
    tenantId: string,
    query?: QueryOf<typeof listTenantMembers>,
    options?: CallOptions,
  ): Listing<ResultOf<typeof listTenantMembers>>;
  read(tenantId: string, id: string, options?: CallOptions): Promise<ResultOf<typeof readTenantMember>>;
  /** The member's keys and tokens follow within one second. */
  change(
    tenantId: string,
    id: string,
    body: BodyOf<typeof changeTenantMember>,
    options?: CallOptions,
  ): Promise<ResultOf<typeof changeTenantMember>>;
  /** For good; the member's keys and tokens end within one second. */
  remove(tenantId: string, id: string, options?: CallOptions): Promise<ResultOf<typeof removeTenantMember>>;
}

export function tenantMembersOf({ call }: Pick<Transport, 'call'>): TenantMembersClient {
  return {
    create: (id, body, given) => call(createTenantMember, { ...given, params: { id }, body }),
    list: (id, query = {}, given = {}) =>
      createListing((after) =>
        call(listTenantMembers, { ...given, params: { id }, query: following(query, after) }),
      ),
    read: (id, memberId, given) => call(readTenantMember, { ...given, params: { id, member_id: memberId } }),
    change: (id, memberId, body, given) =>
      call(changeTenantMember, { ...given, params: { id, member_id: memberId }, body }),
    remove: (id, memberId, given) =>
      call(removeTenantMember, { ...given, params: { id, member_id: memberId } }),
  };
}

/** The operator's view of the outside issuers of any tenant. */
export interface TenantIssuersClient {
  /** The audience may be any that no other tenant has with this issuer. */
  create(
    tenantId: string,
    body: BodyOf<typeof createTenantIssuer>,
    options?: CallOptions,
  ): Promise<ResultOf<typeof createTenantIssuer>>;
  /** Newest first. */
  list(
    tenantId: string,
    query?: QueryOf<typeof listTenantIssuers>,
    options?: CallOptions,
  ): Listing<ResultOf<typeof listTenantIssuers>>;
  read(tenantId: string, id: string, options?: CallOptions): Promise<ResultOf<typeof readTenantIssuer>>;
  /** Effective within one second. Naming the audience settles that it is this tenant's. */
  change(
    tenantId: string,
    id: string,
    body: BodyOf<typeof changeTenantIssuer>,
    options?: CallOptions,
  ): Promise<ResultOf<typeof changeTenantIssuer>>;
  remove(tenantId: string, id: string, options?: CallOptions): Promise<void>;
}

export function tenantIssuersOf({ call, send }: Pick<Transport, 'call' | 'send'>): TenantIssuersClient {
  return {
    create: (id, body, given) => call(createTenantIssuer, { ...given, params: { id }, body }),
    list: (id, query = {}, given = {}) =>
      createListing((after) =>
        call(listTenantIssuers, { ...given, params: { id }, query: following(query, after) }),
      ),
    read: (id, issuerId, given) => call(readTenantIssuer, { ...given, params: { id, issuer_id: issuerId } }),
    change: (id, issuerId, body, given) =>
      call(changeTenantIssuer, { ...given, params: { id, issuer_id: issuerId }, body }),
    remove: (id, issuerId, given) =>
      send(deleteTenantIssuer, { ...given, params: { id, issuer_id: issuerId } }),
  };
}
