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
import { limitSettings } from './settings-limits.ts';
import { serverSettings } from './settings-servers.ts';

export * from './setting-declaration.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
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
    name: 'STOA_LEASE_MS',
    section: 'process',
    type: 'duration',
    min: 10_000,
    max: 600_000,
    default: '30000',
    sentence:
      'How long a process may give no sign of life before others take what it holds: running jobs, stored events and replays, the tasks that one process at a time does. Partitions of consumers and the relay are taken after at most 15 s. The same in every process.',
  },
  {
    name: 'STOA_DEMO_TENANT',
    section: 'process',
    type: 'boolean',
    default: { development: 'true', production: 'false' },
    sentence: 'Whether the first start makes a demo tenant. Refused in production.',
  },
  ...serverSettings,
  ...limitSettings,
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
      'The key that encrypts what is kept secret in the database: 32 random bytes as base64 (`openssl rand -base64 32`), the same in each process. In development it is made in the data directory.',
  },
  {
    name: 'STOA_CLUSTER_SECRET',
    section: 'access',
    type: 'text',
    default: null,
    isSecret: true,
    sentence:
      'What processes of one cluster prove themselves to each other with, the same in each; in production 32 random bytes or more as base64 or hex (`openssl rand -base64 32`). Every call between them is signed with it.',
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
    name: 'STOA_TOKEN_ISSUER',
    section: 'access',
    type: 'text',
    default: null,
    sentence:
      'What access tokens name as their issuer and audience (the claims `iss` and `aud`), the same in each process. By default STOA_PUBLIC_URL; without that the address of the first listener, or, on PostgreSQL, a name made of the master key.',
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
  {
    name: 'STOA_RETENTION_AUDIT_MONTHS',
    section: 'retention',
    type: 'months',
    min: 3,
    max: 1_200,
    default: '13',
    sentence: 'How long the audit is kept. Whole months go when all of one is older.',
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
