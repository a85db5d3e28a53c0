import type { TenantState } from '@stoa/contracts';
import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import type { KeyHandle } from '../keys/keys.sql.ts';

export interface IssuerRow {
  readonly tenant_id: string;
  readonly issuer_id: string;
  readonly name: string;
  readonly issuer: string;
  readonly jwks_url: string;
  readonly audience: string;
  readonly algorithms: readonly string[];
  readonly token_types: readonly string[];
  readonly maximum_lifetime_s: number;
  /** JSON text. */
  readonly claims: string;
  readonly enabled: boolean;
  /** Whether the operator said that this audience is the tenant's. */
  readonly settled_by_operator: boolean;
  readonly created_by: string;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
  readonly deleted_at: Date | null;
}

export interface IssuerValues {
  readonly name: string;
  readonly issuer: string;
  readonly jwksUrl: string;
  readonly audience: string;
  readonly algorithms: readonly string[];
  readonly tokenTypes: readonly string[];
  readonly maximumLifetimeS: number;
  readonly claims: string;
  readonly enabled: boolean;
  readonly isSettled: boolean;
  readonly deletedAt: Date | null;
}

const columns = sql.raw(
  ['tenant_id', 'issuer_id', 'name', 'issuer', 'jwks_url', 'audience', 'algorithms', 'token_types']
    .concat([
      'maximum_lifetime_s',
      'claims',
      'enabled',
      'settled_by_operator',
      'created_by',
      'version',
      'created_at',
      'changed_at',
      'deleted_at',
    ])
    .map((name) => `i.${name}`)
    .join(', '),
);

/** By primary key. A unique violation where the tenant has one of the same issuer and audience. */
export async function insertIssuer(
  tx: KeyHandle,
  made: { tenantId: string; issuerId: string; createdBy: string; createdAt: Date },
  values: IssuerValues,
): Promise<IssuerRow> {
  const { rows } = await sql<IssuerRow>`
    insert into tenant.issuers as i
      (tenant_id, issuer_id, name, issuer, jwks_url, audience, algorithms, token_types, maximum_lifetime_s, claims,
       enabled, settled_by_operator, created_by, created_at)
    values
      (${made.tenantId}, ${made.issuerId}, ${values.name}, ${values.issuer}, ${values.jwksUrl}, ${values.audience},
       ${values.algorithms}, ${values.tokenTypes}, ${values.maximumLifetimeS}, ${values.claims}, ${values.enabled},
       ${values.isSettled}, ${made.createdBy}, ${made.createdAt})
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** How many issuers a tenant has. By primary key. */
export async function countIssuers(tx: KeyHandle, tenantId: string): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from tenant.issuers where tenant_id = ${tenantId} and deleted_at is null
  `.execute(tx);
  return Number(rows[0]?.count ?? 0n);
}

/** A page of a tenant's issuers and one more, newest first; null where `after` is none. By issuers_by_age, backwards. */
export async function selectIssuers(
  tx: KeyHandle,
  tenantId: string,
  page: { after: string | null; limit: number },
): Promise<readonly IssuerRow[] | null> {
  const cursor = page.after === null ? null : await selectIssuer(tx, tenantId, page.after);
  if (cursor === undefined) return null;
  const beyond =
    cursor === null
      ? sql`true`
      : sql`(i.created_at, i.issuer_id) < (${cursor.created_at}, ${cursor.issuer_id}::uuid)`;
  const { rows } = await sql<IssuerRow>`
    select ${columns} from tenant.issuers i
    where i.tenant_id = ${tenantId} and i.deleted_at is null and ${beyond}
    order by i.created_at desc, i.issuer_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

/** By primary key. */
export async function selectIssuer(
  tx: KeyHandle,
  tenantId: string,
  issuerId: string,
): Promise<IssuerRow | undefined> {
  const { rows } = await sql<IssuerRow>`
    select ${columns} from tenant.issuers i
    where i.tenant_id = ${tenantId} and i.issuer_id = ${issuerId} and i.deleted_at is null
  `.execute(tx);
  return rows[0];
}

/** Reads an issuer and keeps others from changing it until the transaction ends. By primary key. */
export async function lockIssuer(
  tx: KeyHandle,
  tenantId: string,
  issuerId: string,
): Promise<IssuerRow | undefined> {
  const { rows } = await sql<IssuerRow>`
    select ${columns} from tenant.issuers i
    where i.tenant_id = ${tenantId} and i.issuer_id = ${issuerId} and i.deleted_at is null for update
  `.execute(tx);
  return rows[0];
}

/** Writes what may change of an issuer; the caller holds its lock. By primary key. */
export async function updateIssuer(
  tx: KeyHandle,
  tenantId: string,
  issuerId: string,
  values: IssuerValues,
): Promise<IssuerRow> {
  const { rows } = await sql<IssuerRow>`
    update tenant.issuers i
    set name = ${values.name}, issuer = ${values.issuer}, jwks_url = ${values.jwksUrl}, audience = ${values.audience},
        algorithms = ${values.algorithms}, token_types = ${values.tokenTypes},
        maximum_lifetime_s = ${values.maximumLifetimeS}, claims = ${values.claims}, enabled = ${values.enabled},
        settled_by_operator = ${values.isSettled}, deleted_at = ${values.deletedAt}, version = version + 1, changed_at = clock_timestamp()
    where i.tenant_id = ${tenantId} and i.issuer_id = ${issuerId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

export interface TrustedIssuerRow extends IssuerRow {
  readonly state: TenantState;
}

/**
 * Which other tenant has the operator's word for an issuer and audience; and keeps others from being given it until the
 * transaction ends. By issuers_by_issuer_and_audience.
 */
export async function lockSettled(
  tx: KeyHandle,
  { tenantId, issuer, audience }: { tenantId: string; issuer: string; audience: string },
): Promise<IssuerRow | undefined> {
  await sql`select pg_advisory_xact_lock(hashtext('tenant.issuers.settled_by_operator'))`.execute(tx);
  const { rows } = await sql<IssuerRow>`
    select ${columns} from tenant.issuers i
    where i.issuer = ${issuer} and i.audience = ${audience} and i.deleted_at is null and i.settled_by_operator
      and i.tenant_id <> ${tenantId}
    limit 1
  `.execute(tx);
  return rows[0];
}

/** The claims `iss` and `aud` of a token. */
export interface TokenClaims {
  readonly issuer: string;
  readonly audience: string;
}

/**
 * Whoever trusts tokens of these claims, with the tenants' states; without a bound of rows, since of one issuer and audience
 * no more than one is settled, or holds its tenant's id. By issuers_by_issuer_and_audience.
 */
export async function selectTrusted(
  tx: SystemHandle,
  wanted: readonly TokenClaims[],
): Promise<readonly TrustedIssuerRow[]> {
  const { rows } = await sql<TrustedIssuerRow>`
    select ${columns}, t.state
    from unnest(${wanted.map(({ issuer }) => issuer)}::text[], ${wanted.map(({ audience }) => audience)}::text[])
      as wanted (issuer, audience)
    join tenant.issuers i on i.issuer = wanted.issuer and i.audience = wanted.audience
    join tenant.tenants t on t.tenant_id = i.tenant_id
    where i.deleted_at is null and i.enabled and (i.settled_by_operator or strpos(i.audience, 'ten_') > 0)
    order by i.tenant_id, i.issuer_id
  `.execute(tx);
  return rows;
}

function one(rows: readonly IssuerRow[]): IssuerRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns an issuer returned none');
  return row;
}
