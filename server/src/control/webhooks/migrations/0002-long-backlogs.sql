-- phase: expand
-- A webhook with millions of deliveries is given up and deleted in pieces. Two columns without a default: no rewrite, a lock
-- for a moment. Code that does not know of them goes on working, and sends for so long what it should give up.

alter table tenant.webhook_endpoints
  -- What waits and was made up to then is given up, not sent. Null where nothing of it is left.
  add column given_up_until timestamptz,
  -- Gone for its tenant; the upkeep deletes its deliveries and then the row.
  add column deleted_at timestamptz;
