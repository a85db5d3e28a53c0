-- phase: expand
-- For which end user a denied act was, and one entry a minute for each principal and permission over all processes. A column
-- without a default rewrites nothing; the table is new.

alter table tenant.audit_entries add column end_user text;

-- Who has written the entry of a minute, since nobody may change an entry: whoever comes second keeps its count for the next
-- minute. Digests of who and what, and nothing of a tenant's; kept for minutes.
create table platform.denied_minutes (
  minute timestamptz not null,
  -- SHA-256 in hex.
  digest text not null check (length(digest) = 64),
  primary key (minute, digest)
);

select platform.protect_platform_table('platform.denied_minutes', system_verbs => 'select, insert, delete');
