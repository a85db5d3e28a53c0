/**
 * Every setting of the server, declared once. The loader (server/src/app/config.ts), `stoa config print` and
 * docs/reference/config.md follow from this table; nothing else reads the environment.
 *
 * A value comes from the variable `NAME`, or from the file that `NAME_FILE` names, else from the default. Defaults are
 * written as one would write them in the environment, and go through the same parser. `null` means: unset.
 */

import {
  type CamelCase,
  profiles,
  type SettingDeclaration,
  type ValueOfType,
} from './setting-declaration.ts';

export * from './setting-declaration.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const postgres = ['postgres:', 'postgresql:'] as const;
const web = ['http:', 'https:'] as const;

export const settingTable = [
  // The process
  {
    name: 'STOA_PROFILE',
    section: 'process',
    type: 'enum',
    values: profiles,
    default: 'development',
    sentence:
      'What the process is for. `production` demands a real database and refuses default or weak secrets, the scripted provider and the demo tenant.',
  },
  {
    name: 'STOA_DATA_DIR',
    section: 'process',
    type: 'path',
    default: '.stoa',
    sentence:
      "The data directory. By default `.stoa` under the repository's root. One process at a time holds its lock.",
  },
  {
    name: 'STOA_CONFIG',
    section: 'process',
    type: 'path',
    default: null,
    sentence:
      'The file with providers and models. By default `stoa.yaml` beside the data directory, if it is there; a file that is named must exist.',
  },
  {
    name: 'STOA_LOG_LEVEL',
    section: 'process',
    type: 'enum',
    values: ['debug', 'info', 'warn', 'error', 'silent'],
    default: 'info',
    sentence: 'The least severe log lines that are written, as JSON, to standard output.',
  },
  {
    name: 'STOA_DRAIN_DELAY_MS',
    section: 'process',
    type: 'duration',
    min: 0,
    max: 120_000,
    default: { development: '0', production: '5000' },
    sentence: 'After SIGTERM: how long the process goes on accepting while `/readyz` is 503 already.',
  },
  {
    name: 'STOA_DRAIN_DEADLINE_MS',
    section: 'process',
    type: 'duration',
    min: 100,
    max: 600_000,
    default: '10000',
    sentence:
      'After the drain delay: how long running requests may take to finish before they are handed back or ended in band.',
  },
  {
    name: 'STOA_DEMO_TENANT',
    section: 'process',
    type: 'boolean',
    default: { development: 'true', production: 'false' },
    sentence: 'Whether the first start makes a demo tenant. Refused in production.',
  },
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
    isReserved: true,
    sentence:
      'Proxies whose `X-Forwarded-For` is believed: addresses and CIDR blocks, separated by commas. By default none.',
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
  // Models
  {
    name: 'STOA_OPENAI_BASE_URL',
    section: 'models',
    type: 'url',
    protocols: web,
    default: null,
    sentence:
      'Any OpenAI-compatible server, with its `/v1`. Its models become targets under the ids that it lists, open to every tenant, and `auto` uses them.',
  },
  {
    name: 'STOA_OPENAI_API_KEY',
    section: 'models',
    type: 'text',
    default: null,
    isSecret: true,
    sentence: 'The credential that is sent to `STOA_OPENAI_BASE_URL`, where it needs one.',
  },
  {
    name: 'STOA_OPENAI_MAX_CONCURRENCY',
    section: 'models',
    type: 'integer',
    min: 1,
    max: 100_000,
    default: '4096',
    sentence:
      'Simultaneous calls of this process to `STOA_OPENAI_BASE_URL`; what is over waits up to a second, then goes to the next target.',
  },
  {
    name: 'STOA_SCRIPTED_FILE',
    section: 'models',
    type: 'path',
    default: null,
    sentence: 'Rules of the scripted provider (YAML), for tests and demonstrations. Refused in production.',
  },
  // Metering and the journal
  {
    name: 'STOA_METERING_DURABILITY',
    section: 'metering',
    type: 'enum',
    values: ['journal', 'commit'],
    default: 'journal',
    sentence:
      "`journal`: a request counts as recorded once it is in the process's journal, which survives the death of the process or container but is not fsynced. `commit`: the answer's end waits for the database, and nothing is lost.",
  },
  {
    name: 'STOA_JOURNAL_DIR',
    section: 'metering',
    type: 'path',
    default: null,
    sentence:
      'Where the journal lies; a volume of its own in Kubernetes. By default `journal` in the data directory.',
  },
  {
    name: 'STOA_JOURNAL_MAX_BYTES',
    section: 'metering',
    type: 'bytes',
    min: MiB,
    max: 1024 * GiB,
    default: '1GiB',
    sentence:
      'The most that the journal holds unshipped. When it is full, requests are settled as by `commit`.',
  },
  {
    name: 'STOA_JOURNAL_SEGMENT_BYTES',
    section: 'metering',
    type: 'bytes',
    min: 64 * KiB,
    max: GiB,
    default: '16MiB',
    sentence:
      'The size at which a journal file is closed and the next begun. At most a quarter of the journal.',
  },
  {
    name: 'STOA_JOURNAL_SHIP_INTERVAL_MS',
    section: 'metering',
    type: 'duration',
    min: 5,
    max: 200,
    default: '100',
    sentence: 'The longest wait before a batch of journal entries is shipped to the database.',
  },
  // Keys and secrets
  {
    name: 'STOA_MASTER_KEY',
    section: 'access',
    type: 'base64',
    sizeBytes: 32,
    default: null,
    isSecret: true,
    isRequiredInProduction: true,
    sentence:
      'The key that encrypts provider credentials: 32 random bytes as base64 (`openssl rand -base64 32`). In development it is made in the data directory.',
  },
  {
    name: 'STOA_CLUSTER_SECRET',
    section: 'access',
    type: 'text',
    default: null,
    isSecret: true,
    sentence:
      'What processes of one cluster prove themselves to each other with, the same in each; at least 32 characters in production. Every call between them is signed with it.',
  },
  {
    name: 'STOA_CLUSTER_SECRET_PREVIOUS',
    section: 'access',
    type: 'text',
    default: null,
    isSecret: true,
    sentence:
      'A second secret that is accepted but signs nothing. To rotate: set the new one here in every process, then swap the two, then unset this one.',
  },
  {
    name: 'STOA_KEY_CACHE_SIZE',
    section: 'access',
    type: 'integer',
    min: 100,
    max: 10_000_000,
    default: '50000',
    sentence: 'API keys held in memory, about 1 KiB each; the least recently used goes first.',
  },
  {
    name: 'STOA_KEY_STALE_MAX_MS',
    section: 'access',
    type: 'duration',
    min: 0,
    max: 900_000,
    default: '900000',
    sentence:
      'How long cached keys are honoured while the database is away; then 503 `database_unavailable`.',
  },
  // Retention
  {
    name: 'STOA_RETENTION_EVENTS_DAYS',
    section: 'retention',
    type: 'days',
    min: 1,
    max: 3_650,
    default: '7',
    sentence: 'How long the event log is kept.',
  },
  {
    name: 'STOA_RETENTION_USAGE_MONTHS',
    section: 'retention',
    type: 'months',
    min: 1,
    max: 120,
    default: '13',
    sentence: 'How long usage is kept. Explanations of single requests are kept for 90 days.',
  },
] as const satisfies readonly SettingDeclaration[];

export type SettingName = (typeof settingTable)[number]['name'];

/** Names that begin with `STOA_` but belong to the command line or the tests; the server neither reads nor warns. */
export const foreignNames: ReadonlyMap<string, string> = new Map([
  ['STOA_URL', 'The address that `stoa` calls for tenants.'],
  ['STOA_ADMIN_URL', 'The address that `stoa` calls for the operator.'],
  ['STOA_KEY', 'The key that `stoa` calls with.'],
  ['STOA_CONFORMANCE', '`skip` lets `npm run test:conformance` pass without its data.'],
  ['STOA_CONFORMANCE_DATA', 'The folder of the outside test vectors.'],
]);

type Declared = (typeof settingTable)[number];

type NonNullValue<D extends Declared> = D extends {
  type: 'enum';
  values: infer Values extends readonly string[];
}
  ? Values[number]
  : ValueOfType[D['type']];

type KeyOf<Name extends SettingName> = Name extends `STOA_${infer Words}` ? CamelCase<Words> : never;

/** The settings as the server uses them: `STOA_DATA_DIR` is `dataDir`. Those without a default may be null. */
export type Settings = {
  readonly [D in Declared as KeyOf<D['name']>]: D['default'] extends null
    ? NonNullValue<D> | null
    : NonNullValue<D>;
};
