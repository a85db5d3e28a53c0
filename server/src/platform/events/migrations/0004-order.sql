-- compatible-with-older-code
-- The order of the log within a key. Locks the log for the moment that a default takes.
--
-- A transaction gets its id with its first write, which may be long before it takes the lock of the row that changes (an
-- audit entry comes first). So ids do not follow the order of locks: of two writers of one key, the one with the lower id
-- may come second, and its event would be read first. The position is therefore never below the next id as the
-- inserting statement saw it: whoever held the row's lock before has ended by then, at a lower position. It is never
-- below the writer's own id either: while a writer runs, its events lie at or above the horizon, and readers, who stay
-- below it, can't pass them.
-- This holds where the event is written by a later statement than the one that takes the row's lock.

alter table tenant.events
  alter column xid set default greatest(pg_current_xact_id(), pg_snapshot_xmax(pg_current_snapshot()));
