/**
 * What the system door may do: job -> table -> verbs. One list, used twice: `withSystem` refuses a statement of a job
 * that touches what the job's list lacks, and a test demands that the grants of the role `stoa_system` in the migrated
 * schema are exactly the union of these lists. Whoever owns a table adds its lines here, beside the migration that
 * passes the same verbs to `platform.protect_tenant_table` or `platform.protect_platform_table`.
 */

/** `execute` is for functions: `schema.name`, whatever their arguments. */
export type Verb = 'select' | 'insert' | 'update' | 'delete' | 'execute';

export type JobGrants = Readonly<Record<string, readonly Verb[]>>;

/** What the dispatcher does beside the effect of a system-door consumer, in its transaction: its job spreads this. */
const consumerGrants = {
  'tenant.events': ['select'],
  'tenant.event_inbox': ['select', 'insert', 'delete'],
  'tenant.event_positions': ['select', 'insert', 'update'],
  'tenant.event_deliveries': ['select', 'update', 'delete'],
  'tenant.event_replays': ['select', 'update'],
} as const satisfies JobGrants;

export const systemGrants = {
  /** Writes what the journal holds: requests, usage, events; in batches over many tenants. */
  settlement: {
    'tenant.requests': ['select', 'insert'],
    'tenant.usage_records': ['select', 'insert'],
    'tenant.events': ['insert'],
    'platform.uuid_time': ['execute'],
  },
  /** Reads the log in the order of its cursor, keeps how far the relay to NATS is, and tells a purge from a loss. */
  relay: {
    'tenant.events': ['select'],
    'tenant.tenants': ['select'],
    'platform.event_places': ['select'],
    'platform.event_relays': ['select', 'insert', 'update'],
    'platform.event_log_identity': ['select'],
    'platform.database_server': ['execute'],
  },
  /** Shares the partitions of consumers, keeps their places, and stores what did not go through at once. */
  'event-dispatch': {
    ...consumerGrants,
    'tenant.event_positions': ['select', 'insert', 'update', 'delete'],
    'tenant.event_deliveries': ['select', 'insert', 'update', 'delete'],
    'platform.event_places': ['select', 'insert', 'update'],
    'platform.event_feeders': ['select', 'insert', 'update', 'delete'],
    'platform.hold_fence': ['execute'],
  },
  /** Authentication: key id -> principal and tenant policy. */
  'key-lookup': {
    'tenant.tenants': ['select'],
    'tenant.api_keys': ['select'],
    'tenant.members': ['select'],
    'tenant.revoked_tokens': ['select'],
    'tenant.token_cutoffs': ['select'],
    'tenant.issuers': ['select'],
    'platform.operator_keys': ['select'],
    'platform.signing_keys': ['select'],
  },
  /** Makes the next key that access tokens are signed with, and takes away those that nobody needs any more. */
  'signing-keys': {
    'platform.signing_keys': ['select', 'insert', 'delete'],
    'platform.hold_fence': ['execute'],
  },
  /** Notes, in batches, when keys were last used. */
  'key-last-use': { 'tenant.api_keys': ['select', 'update'], 'platform.operator_keys': ['select', 'update'] },
  /** Warns of keys that expire soon. */
  'key-expiry': {
    'tenant.tenants': ['select'],
    'tenant.api_keys': ['select', 'update'],
    'tenant.events': ['insert'],
    'platform.hold_fence': ['execute'],
  },
  /**
   * Makes the partitions of the coming days and drops the expired, through definer functions only; of the event log it
   * reads who has not read a day yet.
   */
  partitions: {
    'tenant.events': ['select'],
    'platform.event_places': ['select'],
    'platform.event_relays': ['select'],
    'platform.event_log_identity': ['select'],
    'platform.database_server': ['execute'],
    'platform.make_partitions': ['execute'],
    'platform.drop_partitions': ['execute'],
    'platform.make_month_partitions': ['execute'],
    'platform.drop_month_partitions': ['execute'],
    'platform.make_audit_months': ['execute'],
    'platform.drop_audit_months': ['execute'],
    'platform.hold_fence': ['execute'],
  },
  /** Writes denied acts; reads on for an operator who exports the audit. Nobody changes or deletes an entry. */
  audit: {
    'tenant.audit_entries': ['select', 'insert'],
    'platform.operator_audit_entries': ['select', 'insert'],
    'platform.denied_minutes': ['select', 'insert', 'delete'],
    'platform.audit_id': ['execute'],
  },
  /** Deletes what is past its stated retention. */
  retention: {
    'tenant.idempotency_keys': ['select', 'delete'],
    'platform.idempotency_keys': ['select', 'delete'],
    'tenant.revoked_tokens': ['select', 'delete'],
    'tenant.token_cutoffs': ['select', 'delete'],
    'platform.hold_fence': ['execute'],
  },
  /**
   * Deletes the rows of tenants whose grace is over. This list is the purge's list of tables, emptied in this order and
   * `tenant.tenants` last; a test demands that it holds every table of the schema tenant.
   */
  purge: {
    'tenant.webhook_deliveries': ['select', 'delete'],
    'tenant.webhook_endpoints': ['select', 'delete'],
    'tenant.policies': ['select', 'delete'],
    'tenant.key_limits': ['select', 'delete'],
    'tenant.limits': ['select', 'delete'],
    'tenant.api_keys': ['select', 'delete'],
    'tenant.key_policies': ['select', 'delete'],
    'tenant.members': ['select', 'delete'],
    'tenant.revoked_tokens': ['select', 'delete'],
    'tenant.token_cutoffs': ['select', 'delete'],
    'tenant.issuers': ['select', 'delete'],
    'tenant.idempotency_keys': ['select', 'delete'],
    'tenant.requests': ['select', 'delete'],
    'tenant.usage_records': ['select', 'delete'],
    'tenant.events': ['select', 'delete'],
    'tenant.event_inbox': ['select', 'delete'],
    'tenant.event_positions': ['select', 'delete'],
    'tenant.event_deliveries': ['select', 'delete'],
    'tenant.event_replays': ['select', 'delete'],
    'tenant.tenants': ['select', 'update', 'delete'],
    // That the tenant was purged. The entries themselves outlive it, and go by their own retention.
    'tenant.audit_entries': ['insert'],
  },
  /** Makes deliveries of events for the endpoints that want them, and knows who wants what. */
  'webhook-fan-out': {
    ...consumerGrants,
    'tenant.tenants': ['select'],
    'tenant.webhook_endpoints': ['select', 'update'],
    'tenant.webhook_deliveries': ['insert'],
    'jobs.enqueue': ['execute'],
  },
  /** Disables endpoints that are gone or fail for days. */
  'webhook-disable': {
    'tenant.webhook_endpoints': ['select', 'update'],
    'tenant.events': ['insert'],
    'tenant.audit_entries': ['insert'],
  },
  /** Deletes old deliveries, and plans rounds anew whose job was lost. */
  'webhook-upkeep': {
    'tenant.webhook_endpoints': ['select', 'update', 'delete'],
    'tenant.webhook_deliveries': ['select', 'delete'],
    'jobs.enqueue': ['execute'],
  },
  /** Leases of `platform/jobs`: at most one process runs a timer. */
  leases: { 'platform.leases': ['select', 'insert', 'update'] },
  /** Declares, takes, settles, schedules and sweeps jobs: pg-boss's rows and ours beside them. */
  jobs: {
    'jobs.queue': ['select', 'insert', 'update'],
    'jobs.job': ['select', 'insert', 'update', 'delete'],
    'jobs.job_common': ['select', 'insert', 'update', 'delete'],
    'jobs.job_dependency': ['select', 'delete'],
    'jobs.instance': ['select', 'update', 'delete'],
    'jobs.version': ['select', 'update'],
    'jobs.named_jobs': ['select', 'insert', 'update'],
    'jobs.progress': ['select', 'insert', 'update', 'delete'],
    'jobs.create_queue': ['execute'],
    'jobs.job_now': ['execute'],
    'jobs.enqueue': ['execute'],
    'jobs.take_job': ['execute'],
    'platform.hold_fence': ['execute'],
  },
  /** Snapshots of providers, credentials and models. */
  registry: {
    'platform.registry_state': ['select'],
    'platform.providers': ['select'],
    'platform.models': ['select'],
  },
  /** Snapshots of the price book; seeding and importing it. */
  prices: {
    'platform.price_books': ['select', 'insert'],
    'platform.price_state': ['select', 'update'],
    'platform.price_revisions': ['select', 'insert'],
    'platform.prices': ['select'],
  },
  /** Snapshots of routing policies. */
  policies: { 'tenant.policies': ['select'] },
  /** Snapshots of rate limits. */
  limits: { 'tenant.limits': ['select'], 'tenant.key_limits': ['select'] },
  /** Keeps, answers and expires idempotency keys. */
  idempotency: { 'platform.idempotency_keys': ['select', 'insert', 'update', 'delete'] },
  /** Whether the schema is the one that this code serves; which processes serve it. */
  schema: {
    'platform.migrations': ['select'],
    'platform.processes': ['select', 'insert', 'update', 'delete'],
    'platform.hold_fence': ['execute'],
  },
} as const satisfies Record<string, JobGrants>;

export type SystemJob = keyof typeof systemGrants;
