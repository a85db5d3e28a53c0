-- What the consumers of the tests do: a row for each time that a handler ran and its transaction committed.
create table tenant.test_effects (
  tenant_id uuid not null,
  effect_id bigint generated always as identity,
  consumer text not null,
  event_id uuid not null,
  key text not null,
  keyversion bigint not null,
  primary key (tenant_id, effect_id)
);
select platform.protect_tenant_table('tenant.test_effects',
  tenant_verbs => 'select, insert', operator_verbs => 'select, insert');
