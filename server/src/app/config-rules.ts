import type { Settings } from '@stoa/contracts';
import { redisUrlFault } from '#cache';
import { readOutboundAllowances } from '#http';
import { readRoleUrls } from './role-urls.ts';
import { isGuessablePassword, keyWeakness, secretWeakness, typedWeakness } from './secret-strength.ts';

/** One thing that is wrong: with which setting, what, and what is expected instead. Never holds a secret. */
export interface SettingFault {
  readonly name: string;
  readonly wrong: string;
  readonly expected: string;
}

/** What the rules may look at: only settings that were read without a fault are present. */
export type ReadableSettings = Partial<Settings>;

/** Passwords and secrets that are in every tutorial; compared in lower case. */
const commonSecrets = new Set([
  'admin',
  'changeit',
  'changeme',
  'default',
  'letmein',
  'password',
  'postgres',
  'root',
  'secret',
  'stoa',
  'test',
]);

const databaseLogins = [
  ['STOA_DATABASE_URL', 'databaseUrl'],
  ['STOA_OPERATOR_DATABASE_URL', 'operatorDatabaseUrl'],
  ['STOA_SYSTEM_DATABASE_URL', 'systemDatabaseUrl'],
  ['STOA_MIGRATION_DATABASE_URL', 'migrationDatabaseUrl'],
] as const;

/** Whoever serves needs these; the login that owns the schema only whoever migrates it. */
const servingLogins = databaseLogins.filter(([, key]) => key !== 'migrationDatabaseUrl');

/** Faults that lie between settings, in either profile. A setting that could not be read takes part in no rule. */
export function crossFaults(settings: ReadableSettings): SettingFault[] {
  return [
    ...databaseSetFaults(settings),
    ...ceilingFault(
      'STOA_BODY_LIMIT_BYTES',
      settings.bodyLimitBytes,
      'STOA_BODIES_IN_FLIGHT_BYTES',
      settings.bodiesInFlightBytes,
    ),
    ...ceilingFault(
      'STOA_HEADERS_TIMEOUT_MS',
      settings.headersTimeoutMs,
      'STOA_REQUEST_TIMEOUT_MS',
      settings.requestTimeoutMs,
    ),
    ...segmentFaults(settings),
    ...listenFaults(settings),
    ...baseUrlFaults(settings),
    ...natsFaults(settings),
    ...streamAgeFaults(settings),
    ...redisFaults(settings),
    ...weakSecretFaults(settings),
    ...clusterFaults(settings),
    ...outboundFaults(settings),
  ];
}

/** What the production profile refuses to run with. */
export function productionFaults(settings: ReadableSettings): SettingFault[] {
  if (settings.profile !== 'production') return [];
  const faults: SettingFault[] = [];
  if (settings.demoTenant === true) {
    faults.push({
      name: 'STOA_DEMO_TENANT',
      wrong: 'the demo tenant is refused in production',
      expected: '`false`, or unset',
    });
  }
  if (typeof settings.scriptedFile === 'string') {
    faults.push({
      name: 'STOA_SCRIPTED_FILE',
      wrong: 'the scripted provider is refused in production',
      expected: 'unset',
    });
  }
  return [...faults, ...loginFaults(settings)];
}

const clusterSecrets = [
  ['STOA_CLUSTER_SECRET', 'clusterSecret'],
  ['STOA_CLUSTER_SECRET_PREVIOUS', 'clusterSecretPrevious'],
] as const;

/**
 * Secrets of Stoa's own that somebody set, in either profile: what is tried out with a guessable one is exposed all the same.
 * Development makes its own where none is set, and takes a cluster's secret that was typed, if it is long and no pattern;
 * production takes random bytes alone. Of the two secrets of the cluster both are accepted from other processes, so the
 * weaker one is how strong they are.
 */
function weakSecretFaults(settings: ReadableSettings): SettingFault[] {
  const weakness = settings.masterKey instanceof Uint8Array ? keyWeakness(settings.masterKey) : null;
  const ofMasterKey: SettingFault = {
    name: 'STOA_MASTER_KEY',
    wrong: `the value is not random: ${weakness ?? ''}`,
    expected: '32 random bytes as base64 (`openssl rand -base64 32`)',
  };
  const ofCluster = clusterSecrets.flatMap(([name, key]) => {
    const text = settings[key];
    const weaknessOf = settings.profile === 'production' ? secretWeakness : typedWeakness;
    const weakness = typeof text === 'string' ? weaknessOf(text) : null;
    if (weakness === null) return [];
    const expected = '32 random bytes or more as base64 or hex (`openssl rand -base64 32`)';
    return [{ name, wrong: `the value is too easy to guess: ${weakness}`, expected }];
  });
  return weakness === null ? ofCluster : [ofMasterKey, ...ofCluster];
}

/** What needs the secret of the cluster, and where its other processes live. */
function clusterFaults(settings: ReadableSettings): SettingFault[] {
  const faults: SettingFault[] = [];
  const { clusterSecret, clusterSecretPrevious, clusterListen, roleUrls } = settings;
  const needing = [
    ['STOA_CLUSTER_SECRET_PREVIOUS', clusterSecretPrevious],
    ['STOA_CLUSTER_LISTEN', clusterListen],
    ['STOA_ROLE_URLS', roleUrls],
  ] as const;
  for (const [name, value] of needing) {
    if (clusterSecret !== null || value === null || value === undefined) continue;
    faults.push({ name, wrong: 'it is set without STOA_CLUSTER_SECRET', expected: 'both, or neither' });
  }
  if (typeof clusterSecret === 'string' && clusterSecret === clusterSecretPrevious) {
    faults.push({
      name: 'STOA_CLUSTER_SECRET_PREVIOUS',
      wrong: 'it is the value of STOA_CLUSTER_SECRET',
      expected: 'the other secret of a rotation, or unset',
    });
  }
  const read = readRoleUrls(roleUrls ?? null);
  if ('wrong' in read) {
    const expected = '`role=url`, separated by commas, such as `control=http://10.0.0.5:8082`';
    faults.push({ name: 'STOA_ROLE_URLS', wrong: read.wrong, expected });
  }
  return faults;
}

function outboundFaults({ outboundAllow }: ReadableSettings): SettingFault[] {
  const read = readOutboundAllowances(outboundAllow ?? null);
  if ('allowances' in read) return [];
  return read.wrong.map((entry) => ({
    name: 'STOA_OUTBOUND_ALLOW',
    wrong: `${JSON.stringify(entry)} is no entry`,
    expected:
      'a host, `*.name`, an address or a CIDR block, with a port or `:*` behind it or none, and `ten_...=` before it or not',
  }));
}

function databaseSetFaults(settings: ReadableSettings): SettingFault[] {
  if (settings.profile === 'production') return []; // there, each missing one is a fault by itself
  const present = databaseLogins.filter(([, key]) => settings[key] !== null);
  const isTenantOnly = present.length === 1 && typeof settings.databaseUrl === 'string';
  if (present.length === 0 || isTenantOnly) return [];
  const missing = servingLogins.filter(([, key]) => settings[key] === null);
  return missing.map(([name]) => ({
    name,
    wrong: 'it is missing while other logins are set',
    expected:
      'the URLs of all logins (the one for migrations only where this process migrates), or STOA_DATABASE_URL alone, or none',
  }));
}

function ceilingFault(
  name: string,
  value: number | undefined,
  ceilingName: string,
  ceiling: number | undefined,
): SettingFault[] {
  if (value === undefined || ceiling === undefined || value <= ceiling) return [];
  return [
    {
      name,
      wrong: `${value} is above ${ceilingName}`,
      expected: `at most ${ceiling}, or a higher ${ceilingName}`,
    },
  ];
}

function segmentFaults({
  journalSegmentBytes: segment,
  journalMaxBytes: whole,
}: ReadableSettings): SettingFault[] {
  if (segment === undefined || whole === undefined || segment * 4 <= whole) return [];
  return [
    {
      name: 'STOA_JOURNAL_SEGMENT_BYTES',
      wrong: `${segment} is above a quarter of STOA_JOURNAL_MAX_BYTES`,
      expected: `at most ${Math.floor(whole / 4)}`,
    },
  ];
}

/** In either profile: what a URL can say beyond its scheme, and what Redis can be told by it. */
function redisFaults({ redisUrl, profile }: ReadableSettings): SettingFault[] {
  if (typeof redisUrl !== 'string') return [];
  const name = 'STOA_REDIS_URL';
  const fault = redisUrlFault(redisUrl);
  if (fault !== null) return [{ name, ...fault }];
  const password = decoded(new URL(redisUrl).password);
  const isWeak =
    password !== '' && (commonSecrets.has(password.toLowerCase()) || isGuessablePassword(password));
  if (profile !== 'production' || !isWeak) return [];
  return [{ name, wrong: 'its password is too easy to guess', expected: 'a random one, or none' }];
}

/** The client reads of the URL what is named here, and nothing else would have an effect. */
function natsFaults({ natsUrl, natsStream, natsSubject }: ReadableSettings): SettingFault[] {
  const faults: SettingFault[] = [];
  if (typeof natsUrl === 'string') {
    const { hostname, pathname, search, hash } = new URL(natsUrl);
    if (hostname === '' || pathname.replace('/', '') + search + hash !== '') {
      faults.push({
        name: 'STOA_NATS_URL',
        wrong: 'it lacks a host, or holds a path, a query or a fragment',
        expected: '`nats://[login@]host[:port]`, or `tls://` where the server wants TLS',
      });
    }
  }
  if (natsStream !== undefined && !/^[\w-]{1,200}$/.test(natsStream)) {
    faults.push({
      name: 'STOA_NATS_STREAM',
      wrong: 'it is no name of a stream',
      expected: 'letters, digits, `_` and `-`, at most 200',
    });
  }
  if (natsSubject !== undefined && !/^(?!\$)[\w-]+(\.[\w-]+){0,7}$/.test(natsSubject)) {
    faults.push({
      name: 'STOA_NATS_SUBJECT',
      wrong: 'it is no beginning of a subject',
      expected: 'up to eight words of letters, digits, `_` and `-`, separated by dots',
    });
  }
  return faults;
}

/** An event too large for a message is in the log alone: a stream that outlives the log refers to what is gone. */
function streamAgeFaults({ natsUrl, natsMaxAgeDays, retentionEventsDays }: ReadableSettings): SettingFault[] {
  if (typeof natsUrl !== 'string') return [];
  return ceilingFault(
    'STOA_NATS_MAX_AGE_DAYS',
    natsMaxAgeDays,
    'STOA_RETENTION_EVENTS_DAYS',
    retentionEventsDays,
  );
}

/** The API shows the address of a provider; a path is put behind it, so that nothing may stand there. */
function baseUrlFaults({ openaiBaseUrl }: ReadableSettings): SettingFault[] {
  if (typeof openaiBaseUrl !== 'string') return [];
  const { username, password, search, hash } = new URL(openaiBaseUrl);
  if (username + password + search + hash === '') return [];
  return [
    {
      name: 'STOA_OPENAI_BASE_URL',
      wrong: 'it holds credentials, a query or a fragment',
      expected: 'a URL without them; the credential goes into STOA_OPENAI_API_KEY',
    },
  ];
}

/** Each listener has an address of its own; port 0 takes a free one. */
function listenFaults({ listen, adminListen, clusterListen }: ReadableSettings): SettingFault[] {
  const taken = new Map<string, string>();
  const faults: SettingFault[] = [];
  const listeners = [
    ['STOA_LISTEN', listen],
    ['STOA_ADMIN_LISTEN', adminListen],
    ['STOA_CLUSTER_LISTEN', clusterListen],
  ] as const;
  for (const [name, address] of listeners) {
    if (!address || address.port === 0) continue;
    const text = `${address.host}:${address.port}`;
    const other = taken.get(text);
    if (other !== undefined)
      faults.push({ name, wrong: `it is the address of ${other}`, expected: 'another address or port' });
    else taken.set(text, name);
  }
  return faults;
}

/** Each login is a wall of its own: two under one role, or a password from a tutorial, take the wall away. */
function loginFaults(settings: ReadableSettings): SettingFault[] {
  const faults: SettingFault[] = [];
  const seen = new Map<string, string>();
  for (const [name, key] of databaseLogins) {
    const text = settings[key];
    if (typeof text !== 'string') continue;
    const url = new URL(text);
    const password = decoded(url.password);
    if (
      password !== '' &&
      (commonSecrets.has(password.toLowerCase()) ||
        password === decoded(url.username) ||
        isGuessablePassword(password))
    ) {
      faults.push({
        name,
        wrong: 'its password is too easy to guess',
        expected: 'a login made by `stoa db setup`',
      });
    }
    const other = seen.get(decoded(url.username));
    if (other !== undefined) {
      faults.push({
        name,
        wrong: `it uses the login of ${other}`,
        expected: 'a login of its own (`stoa db setup`)',
      });
    }
    seen.set(decoded(url.username), name);
  }
  return faults;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
