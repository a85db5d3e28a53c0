-- The answer to a creating POST of the operator is written in the transaction of its change, so by the operator's door.
-- Locks nothing for longer than a change of grants takes; code that does not know of it goes on working.
-- compatible-with-older-code

select platform.protect_platform_table(
  'platform.idempotency_keys',
  operator_verbs => 'select, update',
  system_verbs => 'select, insert, update, delete'
);
