import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { configurationFailure, usageFailure } from './failure.ts';

/** `tenant` speaks to STOA_URL with a tenant's key, `operator` to STOA_ADMIN_URL with an operator's. */
export type ConnectionKind = 'tenant' | 'operator';

/** A value and, for people, where it came from. */
export interface Sourced {
  readonly value: string;
  readonly origin: string;
}

export interface Connection {
  readonly kind: ConnectionKind;
  readonly url: Sourced;
  readonly key: Sourced;
}

export interface ConnectionFlags {
  readonly url?: string;
  readonly adminUrl?: string;
  readonly key?: string;
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
  /** The repository's root, where `npm start` keeps its data by default. */
  readonly rootDirectory: string;
}

const credentialsShape = z.object({
  baseUrl: z.string(),
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ tenantId: z.string(), apiKey: z.string() }).optional(),
});

interface Credentials extends z.output<typeof credentialsShape> {
  readonly file: string;
}

const names = {
  tenant: { flag: '--url', variable: 'STOA_URL', prefix: 'stoa_sk_', fallback: 'http://127.0.0.1:8080' },
  operator: {
    flag: '--admin-url',
    variable: 'STOA_ADMIN_URL',
    prefix: 'stoa_op_',
    fallback: 'http://127.0.0.1:8081',
  },
} as const;

/**
 * Where to call and with which key: flags first, then the environment, then the data directory's `credentials.json`.
 * A key of that file is sent to that file's address only, so that another server never gets to see it.
 */
export function resolveConnection(
  kind: ConnectionKind,
  flags: ConnectionFlags,
  surroundings: Surroundings,
): Connection {
  const credentials = readCredentials(surroundings);
  const url = resolveUrl(kind, flags, surroundings, credentials);
  return { kind, url, key: resolveKey(kind, flags, surroundings, credentials, url) };
}

function resolveUrl(
  kind: ConnectionKind,
  flags: ConnectionFlags,
  { env }: Surroundings,
  credentials: Credentials | null,
): Sourced {
  const { flag, variable, fallback } = names[kind];
  const given = kind === 'tenant' ? flags.url : flags.adminUrl;
  if (given !== undefined) {
    if (!isHttpUrl(given)) throw usageFailure(`${flag} must be an http(s) URL, such as ${fallback}.`);
    return { value: given, origin: flag };
  }
  const set = env[variable];
  if (set !== undefined && set !== '') {
    if (!isHttpUrl(set))
      throw configurationFailure(`${variable} must be an http(s) URL, such as ${fallback}.`);
    return { value: set, origin: variable };
  }
  if (credentials !== null) {
    return {
      value: kind === 'tenant' ? credentials.baseUrl : credentials.adminUrl,
      origin: credentials.file,
    };
  }
  return { value: fallback, origin: 'the default' };
}

function resolveKey(
  kind: ConnectionKind,
  flags: ConnectionFlags,
  { env }: Surroundings,
  credentials: Credentials | null,
  url: Sourced,
): Sourced {
  const { variable } = names[kind];
  if (flags.key !== undefined) {
    if (isKeyOfOther(kind, flags.key)) throw usageFailure(wrongKind(kind, '--key'));
    return { value: flags.key, origin: '--key' };
  }
  const set = env['STOA_KEY'] ?? '';
  if (set !== '' && !isKeyOfOther(kind, set)) return { value: set, origin: 'STOA_KEY' };
  const own = kind === 'operator' ? credentials?.operatorKey : credentials?.demo?.apiKey;
  const isItsAddress = sameAddress(
    url.value,
    kind === 'tenant' ? credentials?.baseUrl : credentials?.adminUrl,
  );
  if (credentials !== null && own !== undefined && isItsAddress)
    return { value: own, origin: credentials.file };
  if (set !== '') throw configurationFailure(wrongKind(kind, 'STOA_KEY'));
  const wanted = kind === 'operator' ? "an operator's key (stoa_op_...)" : "a tenant's key (stoa_sk_...)";
  if (credentials === null && url.origin === 'the default') {
    throw configurationFailure(
      'No server is known: there is no data directory here, and nothing is set.',
      `Start one with npm start, or set ${variable} and STOA_KEY to ${wanted}.`,
    );
  }
  throw configurationFailure(
    `There is no key for ${url.value} (from ${url.origin}).`,
    `Set STOA_KEY to ${wanted}, or give it with --key.`,
  );
}

function wrongKind(kind: ConnectionKind, origin: string): string {
  return kind === 'operator'
    ? `This command needs an operator's key (stoa_op_...), and ${origin} holds a tenant's.`
    : `This command needs a tenant's key (stoa_sk_...), and ${origin} holds an operator's.`;
}

function isKeyOfOther(kind: ConnectionKind, key: string): boolean {
  return key.startsWith(names[kind === 'tenant' ? 'operator' : 'tenant'].prefix);
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}

function sameAddress(left: string, right: string | undefined): boolean {
  return right !== undefined && new URL(left).origin === new URL(right).origin;
}

/** STOA_DATA_DIR's file; else that of the nearest `.stoa` at or above the directory; else the repository's own. */
function readCredentials({ env, directory, rootDirectory }: Surroundings): Credentials | null {
  const stated = env['STOA_DATA_DIR'];
  const candidates =
    stated === undefined || stated === ''
      ? [...upwards(directory).map((folder) => join(folder, '.stoa')), join(rootDirectory, '.stoa')]
      : [resolve(directory, stated)];
  const file = candidates.map((folder) => join(folder, 'credentials.json')).find((path) => existsSync(path));
  if (file === undefined) return null;
  const parsed = credentialsShape.safeParse(readJson(file));
  if (!parsed.success || !isHttpUrl(parsed.data.baseUrl) || !isHttpUrl(parsed.data.adminUrl)) {
    throw configurationFailure(
      `${file} is not a credentials file of Stoa.`,
      'Remove it and start the server again, which writes it anew.',
    );
  }
  return { ...parsed.data, file };
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    // A parser's own words quote the text, and with it a key.
    const isText = cause instanceof SyntaxError || !(cause instanceof Error);
    throw configurationFailure(`${file} cannot be read: ${isText ? 'it is not valid JSON' : cause.message}.`);
  }
}

function upwards(directory: string): string[] {
  const parent = dirname(directory);
  return parent === directory ? [directory] : [directory, ...upwards(parent)];
}
