-- A key of the operator has a role: those that are there keep doing all. A column with a constant default rewrites
-- nothing; its check is true for the default and reads the few rows there are. Code that does not know of it goes on
-- working.
-- compatible-with-older-code

alter table platform.operator_keys
  add column role text not null default 'operator' check (role in ('operator', 'operator-readonly'));
