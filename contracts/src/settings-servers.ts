import type { SettingDeclaration } from './setting-declaration.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const postgres = ['postgres:', 'postgresql:'] as const;
const web = ['http:', 'https:'] as const;

/** Where Stoa listens, and the servers that it speaks to. */
export const serverSettings = [
  // Network
  {
    name: 'STOA_LISTEN',
    section: 'network',
    type: 'listen',
    default: '127.0.0.1:8080',
    sentence: 'Where tenants call: `/v1/...`, `/livez`, `/readyz`, `/openapi.json`. Port 0 takes a free one.',
  },
  {
    name: 'STOA_ADMIN_LISTEN',
    section: 'network',
    type: 'listen',
    default: '127.0.0.1:8081',
    sentence: 'Where the operator calls: `/control/v1/...`, `/metrics`. Keep it off the internet.',
  },
  {
    name: 'STOA_CLUSTER_LISTEN',
    section: 'network',
    type: 'listen',
    default: null,
    sentence:
      'Where other processes of the cluster call this one: `/internal/v1/...`, and `/v1/...` as the gateway forwards it. Needs STOA_CLUSTER_SECRET; without it the listener is not opened. Keep it inside the cluster.',
  },
  {
    name: 'STOA_ROLE_URLS',
    section: 'network',
    type: 'text',
    default: null,
    sentence:
      'Where roles that do not run in this process live: `role=url`, separated by commas, a role once for each of its processes. The URL is that of its STOA_CLUSTER_LISTEN.',
  },
  {
    name: 'STOA_PUBLIC_URL',
    section: 'network',
    type: 'url',
    protocols: web,
    default: null,
    sentence: "The address that tenants reach Stoa under. By default the first listener's.",
  },
  {
    name: 'STOA_TRUSTED_PROXIES',
    section: 'network',
    type: 'networks',
    default: null,
    sentence:
      'Proxies whose `X-Forwarded-For` is believed: addresses and CIDR blocks, separated by commas. By default none. The client is the right-most address there that is none of them.',
  },
  {
    name: 'STOA_OUTBOUND_ALLOW',
    section: 'network',
    type: 'text',
    default: null,
    sentence:
      "What may be called for tenants (webhooks, keys of their issuers) beside public addresses: hosts, `*.name`, addresses and CIDR blocks, each with a port or `:*`, separated by commas; `ten_...=` before one makes it that tenant's alone. What the operator sets itself (providers, roles) needs no entry.",
  },
  {
    name: 'STOA_OUTBOUND_HTTP',
    section: 'network',
    type: 'boolean',
    default: { development: 'true', production: 'false' },
    sentence:
      'Whether plain http is called for tenants. Where not, only https is, except to what STOA_OUTBOUND_ALLOW names.',
  },
  {
    name: 'STOA_BODY_LIMIT_BYTES',
    section: 'network',
    type: 'bytes',
    min: KiB,
    max: 512 * MiB,
    default: '20MiB',
    sentence: 'The largest request body; above it the answer is 413 `body_too_large`.',
  },
  {
    name: 'STOA_BODIES_IN_FLIGHT_BYTES',
    section: 'network',
    type: 'bytes',
    min: MiB,
    max: 64 * GiB,
    default: '256MiB',
    sentence:
      'The bytes of all request bodies held at once, one tenant holding at most half of it; above it the answer is 503 `overloaded`. Not below the limit of one body.',
  },
  {
    name: 'STOA_HEADER_LIMIT_BYTES',
    section: 'network',
    type: 'bytes',
    min: KiB,
    max: MiB,
    default: '16KiB',
    sentence: 'The largest request head; above it the answer is 431 `header_too_large`.',
  },
  {
    name: 'STOA_HEADERS_TIMEOUT_MS',
    section: 'network',
    type: 'duration',
    min: 100,
    max: 600_000,
    default: '15000',
    sentence: 'How long a request head may take to arrive; then 408 `request_timeout`.',
  },
  {
    name: 'STOA_REQUEST_TIMEOUT_MS',
    section: 'network',
    type: 'duration',
    min: 100,
    max: 3_600_000,
    default: '60000',
    sentence:
      'How long a whole request, body included, may take to arrive; then 408 `request_timeout`. Not shorter than the time for the head.',
  },
  {
    name: 'STOA_KEEP_ALIVE_TIMEOUT_MS',
    section: 'network',
    type: 'duration',
    min: 100,
    max: 3_600_000,
    default: '75000',
    sentence:
      'How long an idle connection stays open. Longer than the idle timeout of a load balancer in front, so that it never meets a closed one.',
  },
  // Database
  {
    name: 'STOA_DATABASE_URL',
    section: 'database',
    type: 'url',
    protocols: postgres,
    default: null,
    isSecret: true,
    isRequiredInProduction: true,
    sentence:
      'PostgreSQL 15 or newer, under the tenant login. Without it an embedded PGlite in the data directory is used. In development, where only this one is set and its login may create roles, Stoa makes the other logins by itself.',
  },
  {
    name: 'STOA_OPERATOR_DATABASE_URL',
    section: 'database',
    type: 'url',
    protocols: postgres,
    default: null,
    isSecret: true,
    isRequiredInProduction: true,
    sentence: 'The same database under the operator login. `stoa db setup` writes all four.',
  },
  {
    name: 'STOA_SYSTEM_DATABASE_URL',
    section: 'database',
    type: 'url',
    protocols: postgres,
    default: null,
    isSecret: true,
    isRequiredInProduction: true,
    sentence: 'The same database under the login of system jobs.',
  },
  {
    name: 'STOA_MIGRATION_DATABASE_URL',
    section: 'database',
    type: 'url',
    protocols: postgres,
    default: null,
    isSecret: true,
    sentence:
      'The same database under the login that owns the schema; for `stoa db migrate`. A process that only serves does without.',
  },
  {
    name: 'STOA_DATABASE_POOL_SIZE',
    section: 'database',
    type: 'integer',
    min: 1,
    max: 200,
    default: '10',
    sentence: 'Connections of this process under the tenant login.',
  },
  {
    name: 'STOA_OPERATOR_DATABASE_POOL_SIZE',
    section: 'database',
    type: 'integer',
    min: 1,
    max: 200,
    default: '4',
    sentence: 'Connections of this process under the operator login.',
  },
  {
    name: 'STOA_SYSTEM_DATABASE_POOL_SIZE',
    section: 'database',
    type: 'integer',
    min: 1,
    max: 200,
    default: '4',
    sentence: 'Connections of this process under the login of system jobs.',
  },
  {
    name: 'STOA_EVENT_HORIZON_LIMIT_MS',
    section: 'database',
    type: 'duration',
    min: 1_000,
    max: 3_600_000,
    default: '30000',
    sentence:
      'Age of a transaction, in any database of the server, from which on it is complained of for holding the delivery of events back: an error line that names it, and `event_horizon` in `degraded`.',
  },
  {
    name: 'STOA_SNAPSHOT_POLL_MS',
    section: 'database',
    type: 'duration',
    min: 50,
    max: 1_000,
    default: '500',
    sentence:
      'How often a process asks the database what changed in keys, tenants, models, policies and prices.',
  },
  // Other servers
  {
    name: 'STOA_NATS_URL',
    section: 'servers',
    type: 'url',
    protocols: ['nats:', 'tls:'],
    default: null,
    isSecret: true,
    sentence:
      'NATS 2.9 or newer with JetStream as the carrier of events, with a login (`user:password@`) or a token (`token@`) where it wants one. Without it the log in the database is read directly.',
  },
  {
    name: 'STOA_NATS_STREAM',
    section: 'servers',
    type: 'text',
    default: 'STOA_EVENTS',
    sentence:
      'The stream that carries the events; made where it is missing. Each database needs one of its own.',
  },
  {
    name: 'STOA_NATS_SUBJECT',
    section: 'servers',
    type: 'text',
    default: 'stoa.ev',
    sentence: 'What the subjects of the events begin with; no other stream of that NATS may take them.',
  },
  {
    name: 'STOA_NATS_MAX_AGE_DAYS',
    section: 'servers',
    type: 'days',
    min: 1,
    max: 3_650,
    default: '7',
    sentence:
      'How long the stream keeps an event. What a consumer has not read by then comes from the log, while that keeps it.',
  },
  {
    name: 'STOA_NATS_MAX_BYTES',
    section: 'servers',
    type: 'bytes',
    min: MiB,
    max: 1024 * GiB,
    default: '4GiB',
    sentence: 'The most that the stream holds; above it the oldest events go. NATS reserves it on its disk.',
  },
  {
    name: 'STOA_NATS_REPLICAS',
    section: 'servers',
    type: 'integer',
    min: 1,
    max: 5,
    default: '1',
    sentence: 'Servers of the NATS cluster that hold the stream; more than 1 needs such a cluster.',
  },
  {
    name: 'STOA_REDIS_URL',
    section: 'servers',
    type: 'url',
    protocols: ['redis:', 'rediss:'],
    default: null,
    isSecret: true,
    sentence:
      'Redis 6 or newer, shared by the processes: cache, limits, leases, and word of changes. Without it they live in memory, and changes made by other processes are polled. `rediss:` is TLS, and takes the options `ca`, `cert`, `key` (PEM files) and `servername`, as in `?ca=/etc/ca.pem`.',
  },
  {
    name: 'STOA_CHROMA_URL',
    section: 'servers',
    type: 'url',
    protocols: web,
    default: null,
    isSecret: true,
    isReserved: true,
    sentence: 'Chroma for vectors. Without it they live in the database.',
  },
  {
    name: 'STOA_BLOBS_URL',
    section: 'servers',
    type: 'url',
    protocols: ['s3:', 'http:', 'https:'],
    default: null,
    isSecret: true,
    isReserved: true,
    sentence: 'An S3-compatible store for blobs. Without it they lie in the data directory.',
  },
] as const satisfies readonly SettingDeclaration[];
