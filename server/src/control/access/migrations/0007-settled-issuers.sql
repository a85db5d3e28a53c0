-- phase: expand
-- Whose tokens of an issuer and audience are, where the audience does not say it by the tenant's id: the operator's word.
-- Locks tenant.issuers for the time of a catalog change and of one scan; it has few rows.

alter table tenant.issuers add column settled_by_operator boolean not null default false;

-- For the look-up by a process that knows only a token: by issuer and audience, since one issuer may serve any number of
-- tenants.
create index issuers_by_issuer_and_audience on tenant.issuers (issuer, audience) where deleted_at is null;

grant insert, update on table tenant.issuers to stoa_operator;

-- The word is the operator's alone, whatever a tenant's code does.
create function platform.on_issuer_settled() returns trigger
language plpgsql
set search_path = pg_catalog
as $$
begin
  if current_user = 'stoa_tenant' and new.settled_by_operator and (
    tg_op = 'INSERT'
    or not old.settled_by_operator
    or (new.issuer, new.audience) is distinct from (old.issuer, old.audience)
  ) then
    raise exception 'only the operator settles whose an audience is' using errcode = 'insufficient_privilege';
  end if;
  return new;
end
$$;

create trigger issuer_settled before insert or update on tenant.issuers
  for each row execute function platform.on_issuer_settled();
