-- Members, access tokens and outside issuers. The tables are new; tenant.api_keys gets a column without a default, which
-- rewrites nothing, a foreign key and an index over rows that have none yet: its lock lasts as long as one scan of it.
-- Code that does not know of them goes on working: no key has a member before code that knows of members runs.
-- compatible-with-older-code

create table tenant.members (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  member_id uuid not null,
  name text not null check (name <> ''),
  email text,
  -- What an outside issuer's tokens name the member by.
  external_id text check (external_id <> ''),
  -- In the whole tenant; null where the member has roles in listed projects only.
  role text check (role in ('admin', 'developer', 'viewer')),
  -- A JSON array of { project_id, role } as text, since it must come back byte for byte.
  projects text not null default '[]',
  -- `operator:` or `key:`, and the id of the key that made the member.
  created_by text not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp(),
  removed_at timestamptz,
  primary key (tenant_id, member_id)
);

create unique index members_by_external_id on tenant.members (tenant_id, external_id)
  where removed_at is null and external_id is not null;
create index members_by_age on tenant.members (tenant_id, created_at, member_id);
create index members_by_change on tenant.members (changed_at) where version > 1;

select platform.protect_tenant_table(
  'tenant.members',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, delete'
);

alter table tenant.api_keys
  add column member_id uuid,
  add constraint api_keys_member_fkey foreign key (tenant_id, member_id) references tenant.members (tenant_id, member_id);
create index api_keys_by_member on tenant.api_keys (tenant_id, member_id) where member_id is not null;

-- Access tokens are stored nowhere; only those that were revoked before their time are.
create table tenant.revoked_tokens (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  token_id text not null check (length(token_id) between 1 and 256),
  revoked_by text not null,
  changed_at timestamptz not null default clock_timestamp(),
  -- From then on no token of this id can be valid, so that the row may go.
  expires_at timestamptz not null,
  primary key (tenant_id, token_id)
);

create index revoked_tokens_by_change on tenant.revoked_tokens (changed_at);
create index revoked_tokens_by_expiry on tenant.revoked_tokens (expires_at);

select platform.protect_tenant_table(
  'tenant.revoked_tokens',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select',
  system_verbs => 'select, delete'
);

-- Tokens of a principal (or of the whole tenant) that were issued at or before `not_before` are refused.
create table tenant.token_cutoffs (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  kind text not null check (kind in ('tenant', 'key', 'member', 'end_user')),
  -- The key's, member's or end user's id; empty for the tenant.
  subject text not null check (length(subject) <= 512 and (subject = '') = (kind = 'tenant')),
  not_before timestamptz not null,
  revoked_by text not null,
  changed_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  primary key (tenant_id, kind, subject)
);

create index token_cutoffs_by_change on tenant.token_cutoffs (changed_at);
create index token_cutoffs_by_expiry on tenant.token_cutoffs (expires_at);

select platform.protect_tenant_table(
  'tenant.token_cutoffs',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select',
  system_verbs => 'select, delete'
);

-- Who else may issue tokens for a tenant's members.
create table tenant.issuers (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  issuer_id uuid not null,
  name text not null check (name <> ''),
  -- The claim `iss`, to the letter.
  issuer text not null check (issuer <> ''),
  jwks_url text not null check (jwks_url <> ''),
  audience text not null check (audience <> ''),
  algorithms text[] not null check (cardinality(algorithms) > 0),
  token_types text[] not null check (cardinality(token_types) > 0),
  maximum_lifetime_s integer not null check (maximum_lifetime_s between 60 and 86400),
  -- A JSON object as text: which claims say who the caller is.
  claims text not null,
  enabled boolean not null default true,
  created_by text not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp(),
  deleted_at timestamptz,
  primary key (tenant_id, issuer_id)
);

create unique index issuers_by_issuer on tenant.issuers (tenant_id, issuer, audience) where deleted_at is null;
-- For the look-up by a process that knows only a token. Not unique: two tenants may trust one issuer.
create index issuers_by_text on tenant.issuers (issuer) where deleted_at is null;
create index issuers_by_age on tenant.issuers (tenant_id, created_at, issuer_id);
create index issuers_by_change on tenant.issuers (changed_at);

select platform.protect_tenant_table(
  'tenant.issuers',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select',
  system_verbs => 'select, delete'
);

-- What Stoa signs its access tokens with. Each key signs for a stated time, follows on the one before it, and is
-- published one such time before it signs and one after.
create table platform.signing_keys (
  generation bigint primary key check (generation > 0),
  key_id text not null unique,
  -- The 32 bytes of the Ed25519 public key in base64url.
  public_key text not null check (length(public_key) = 43),
  -- Sealed under the master key.
  private_key text not null,
  signing_from timestamptz not null,
  signing_until timestamptz not null,
  published_until timestamptz not null,
  changed_at timestamptz not null default clock_timestamp(),
  check (signing_from < signing_until and signing_until <= published_until)
);

create index signing_keys_by_change on platform.signing_keys (changed_at);

select platform.protect_platform_table('platform.signing_keys', system_verbs => 'select, insert, delete');
