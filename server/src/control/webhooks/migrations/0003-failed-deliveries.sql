-- phase: expand
-- concurrently
-- What failed is asked for most and is rare: without this, a page of it is a walk over thirty days of what was delivered.
create index webhook_deliveries_failed on tenant.webhook_deliveries (tenant_id, endpoint_id, delivery_id) where state = 'failed';
