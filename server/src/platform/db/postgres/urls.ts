import { randomBytes } from 'node:crypto';
import { chmod, rename, writeFile } from 'node:fs/promises';
import type { PostgresUrls } from '../types.ts';

/** The URLs of all four logins, as set-up makes them. */
export type AllUrls = Required<PostgresUrls>;

export const loginRoles = {
  tenant: 'stoa_tenant',
  operator: 'stoa_operator',
  system: 'stoa_system',
  migration: 'stoa_migration',
} as const satisfies Record<keyof AllUrls, string>;

export const roleNames: readonly string[] = Object.values(loginRoles);

export interface UrlChange {
  readonly user?: string;
  /** null: without a password. */
  readonly password?: string | null;
  readonly database?: string;
}

/** The same connection URL for another login or database. Host, port and every parameter stay. */
export function changeUrl(url: string, change: UrlChange): string {
  const changed = new URL(url);
  if (change.database !== undefined) changed.pathname = `/${encodeURIComponent(change.database)}`;
  if (changed.hostname === '') {
    // A URL without a host (a Unix socket in `?host=`) can't carry a user before the @; the driver reads these too.
    if (change.user !== undefined) changed.searchParams.set('user', change.user);
    if (typeof change.password === 'string') changed.searchParams.set('password', change.password);
    if (change.password === null) changed.searchParams.delete('password');
    return changed.href;
  }
  if (change.user !== undefined) {
    changed.username = encodeURIComponent(change.user);
    changed.searchParams.delete('user');
  }
  if (change.password !== undefined) {
    changed.password = encodeURIComponent(change.password ?? '');
    changed.searchParams.delete('password');
  }
  return changed.href;
}

/** The password in a connection URL, or null. */
export function passwordOf(url: string): string | null {
  const { password, searchParams } = new URL(url);
  return password === '' ? searchParams.get('password') : decodeURIComponent(password);
}

/** The database that a connection URL names; the driver's default is the user's name. */
export function databaseOf(url: string): string {
  const { pathname, username, searchParams } = new URL(url);
  const name = decodeURIComponent(pathname.replace(/^\//, ''));
  return name === '' ? (searchParams.get('user') ?? decodeURIComponent(username)) : name;
}

/** Host, port and database, without any credential: what two URLs of one database have in common. */
export function placeOf(url: string): string {
  const { hostname, port, searchParams } = new URL(url);
  const host = hostname === '' ? (searchParams.get('host') ?? '') : hostname;
  return `${host}:${port === '' ? '5432' : port}/${databaseOf(url)}`;
}

/** The URLs of the four logins beside `url`; a null password leaves it out. */
export function loginUrls(
  url: string,
  database: string,
  passwords: Readonly<Record<keyof AllUrls, string | null>>,
): AllUrls {
  const of = (login: keyof AllUrls): string =>
    changeUrl(url, { user: loginRoles[login], password: passwords[login], database });
  return { tenant: of('tenant'), operator: of('operator'), system: of('system'), migration: of('migration') };
}

/** Writes a file that only this user may read, whole or not at all. */
export async function writePrivateFile(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  await writeFile(draft, text, { mode: 0o600, flag: 'wx' });
  // The mode given at creation is cut by the umask, never widened; this states it.
  await chmod(draft, 0o600);
  await rename(draft, path);
}

/**
 * Writes the four URLs as settings (`STOA_DATABASE_URL=...` and so on, one a line), mode 0600, replacing the file.
 * Rejects with the file system's error where it can't be written.
 */
export async function writeUrlsFile(path: string, urls: AllUrls): Promise<void> {
  const lines = [
    `STOA_DATABASE_URL=${urls.tenant}`,
    `STOA_OPERATOR_DATABASE_URL=${urls.operator}`,
    `STOA_SYSTEM_DATABASE_URL=${urls.system}`,
    `STOA_MIGRATION_DATABASE_URL=${urls.migration}`,
  ];
  await writePrivateFile(path, `${lines.join('\n')}\n`);
}
