/**
 * Development only: from one URL, whose login may create roles, to the four that Stoa works with. Tried in this order,
 * so that another Stoa on the same server goes on working:
 * 1. the URLs of an earlier start, from the data directory;
 * 2. logins that exist and need no password (trust authentication);
 * 3. logins that have the passwords that any Stoa derives from the same administrator's password;
 * 4. new passwords, where no login exists, or where those that exist are not in use in another database.
 * Where they are in use, it refuses: nothing else would leave the other Stoa whole.
 */

import { scryptSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Client } from 'pg';
import { z } from 'zod';
import { AppError } from '#kernel';
import { SqlError } from '../sql-error.ts';
import {
  allCanConnect,
  createDatabase,
  existingRoles,
  inTurn,
  type Passwords,
  prepareDatabase,
  randomPasswords,
  type RoleSetUp,
  withClient,
  writeRoles,
} from './roles.ts';
import {
  type AllUrls,
  databaseOf,
  loginUrls,
  passwordOf,
  placeOf,
  roleNames,
  writePrivateFile,
} from './urls.ts';

const storedUrls = z.object({
  place: z.string(),
  urls: z.object({ tenant: z.string(), operator: z.string(), system: z.string(), migration: z.string() }),
});

async function readStored(storeFile: string, databaseUrl: string): Promise<AllUrls | null> {
  try {
    const content: unknown = JSON.parse(await readFile(storeFile, 'utf8'));
    const stored = storedUrls.parse(content);
    return stored.place === placeOf(databaseUrl) ? stored.urls : null;
  } catch {
    // Missing, unreadable or of another shape: the logins are found or made again.
    return null;
  }
}

async function store(storeFile: string, databaseUrl: string, urls: AllUrls): Promise<void> {
  await writePrivateFile(storeFile, `${JSON.stringify({ place: placeOf(databaseUrl), urls }, null, 2)}\n`);
}

const noPasswords = { tenant: null, operator: null, system: null, migration: null };

/** The same for every Stoa that is given the same administrator's password; scrypt, so that it can't be found back. */
function derivedPasswords(adminPassword: string): Passwords {
  const derive = (login: string): string =>
    scryptSync(adminPassword, `stoa development login ${login}`, 24).toString('base64url');
  return {
    tenant: derive('tenant'),
    operator: derive('operator'),
    system: derive('system'),
    migration: derive('migration'),
  };
}

async function checkMayCreateRoles(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string; may: boolean }>(
    'select rolname as name, rolsuper or rolcreaterole as may from pg_roles where rolname = current_user',
  );
  const [row] = rows;
  if (row?.may === true) return;
  throw new AppError(
    'invalid_configuration',
    `STOA_DATABASE_URL is set alone, and its login ${row?.name ?? ''} may not create roles. ` +
      'Set STOA_OPERATOR_DATABASE_URL, STOA_SYSTEM_DATABASE_URL and STOA_MIGRATION_DATABASE_URL too, ' +
      'or run `stoa db setup --admin-url URL`, which makes them.',
  );
}

async function checkNotInUseElsewhere(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select distinct datname as name from pg_stat_activity
     where usename = any ($1) and datname is distinct from current_database() and datname is not null`,
    [[...roleNames]],
  );
  const [row] = rows;
  if (row === undefined) return;
  throw new AppError(
    'invalid_configuration',
    `The logins ${roleNames.join(', ')} exist on this server with passwords that are not known here, and the database ` +
      `${row.name} is using them. Set the four database URLs, or stop the other one and start again.`,
  );
}

/** The logins' URLs for one prepared database; makes or takes over what is needed. Runs in turn. */
async function findOrMakeLogins(databaseUrl: string, client: Client): Promise<RoleSetUp> {
  const database = databaseOf(databaseUrl);
  const existing = await existingRoles(client);
  const adminPassword = passwordOf(databaseUrl);
  const passwords = adminPassword === null ? randomPasswords() : derivedPasswords(adminPassword);
  const urls = loginUrls(databaseUrl, database, passwords);
  if (existing.size === roleNames.length) {
    await prepareDatabase(client);
    const open = loginUrls(databaseUrl, database, noPasswords);
    if (await allCanConnect(open)) return { urls: open, notices: [] };
    if (adminPassword !== null && (await allCanConnect(urls))) return { urls, notices: [] };
  }
  if (existing.size > 0) await checkNotInUseElsewhere(client);
  await writeRoles(client, existing, passwords);
  await prepareDatabase(client);
  const notice = 'The database logins existed with unknown passwords and were given new ones.';
  return { urls, notices: existing.size === 0 ? [] : [notice] };
}

async function setUp(databaseUrl: string): Promise<RoleSetUp> {
  return inTurn(databaseUrl, async () =>
    withClient(databaseUrl, async (client) => {
      await checkMayCreateRoles(client);
      return findOrMakeLogins(databaseUrl, client);
    }),
  );
}

/**
 * The four URLs for a development start with `STOA_DATABASE_URL` alone. Makes the database where it is missing and the
 * login may. `storeFile` is a path in the data directory; what is found or made is kept there, mode 0600.
 * Rejects with `invalid_configuration` where the login may not create roles or where the roles are another running
 * Stoa's, and with `database_unavailable` where the server is away (unless an earlier start left URLs: those are
 * returned, and the pools connect when the server is back). May be called by several processes at once.
 */
export async function selfSetUp(databaseUrl: string, storeFile: string): Promise<RoleSetUp> {
  const stored = await readStored(storeFile, databaseUrl);
  if (stored !== null && (await allCanConnect(stored))) return { urls: stored, notices: [] };
  try {
    const result = await setUp(databaseUrl).catch(async (error: unknown) => {
      if (!isMissingDatabase(error)) throw error;
      await createDatabase(databaseUrl, databaseOf(databaseUrl));
      return setUp(databaseUrl);
    });
    await store(storeFile, databaseUrl, result.urls);
    return result;
  } catch (error) {
    const isAway = error instanceof AppError && error.code === 'database_unavailable';
    if (isAway && stored !== null)
      return { urls: stored, notices: ['The database server cannot be reached.'] };
    throw error;
  }
}

function isMissingDatabase(error: unknown): boolean {
  return error instanceof AppError && error.cause instanceof SqlError && error.cause.sqlState === '3D000';
}
