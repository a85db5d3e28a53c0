-- phase: expand
-- What was denied to anybody, newest first, for the operator: few entries among many. Locks the audit's tables against
-- writers while the indexes are built: the tables are as new as this.

create index audit_entries_denied_by_age on tenant.audit_entries (entry_id) where outcome <> 'succeeded';
create index operator_audit_entries_denied_by_age on platform.operator_audit_entries (entry_id)
  where outcome <> 'succeeded';
