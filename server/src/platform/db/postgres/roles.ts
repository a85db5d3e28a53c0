/**
 * The four logins on a PostgreSQL server. Roles belong to the server, not to a database, so two Stoas on one server
 * share them: everything here takes a server-wide turn, changes nothing that is right already, and says what it rotated.
 *
 * It works for a superuser, and for a login with CREATEROLE that owns the database. What it never does: give a role more
 * than LOGIN, or take one that already has more.
 */

import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { Client, DatabaseError, escapeIdentifier, escapeLiteral } from 'pg';
import { AppError } from '#kernel';
import { SqlError } from '../sql-error.ts';
import { translateDriverError } from './source.ts';
import { type AllUrls, changeUrl, databaseOf, loginRoles, loginUrls, roleNames } from './urls.ts';

const connectDeadlineMs = 5000;
const lockWaitMs = 60_000;
/** Any constant: the turn of whoever sets up roles, taken in the server's database `postgres`. */
const turnNumber = '5571202605';
const passwordBytes = 24;

export interface RoleSetUp {
  readonly urls: AllUrls;
  /** What was done beyond the expected, one sentence each; for a person to read. */
  readonly notices: readonly string[];
}

export type Passwords = Readonly<Record<keyof AllUrls, string>>;

/** During set-up a refused login is a fault of the URL; waiting for the server would not help. */
function refusedLogin(error: unknown): unknown {
  const cause = error instanceof AppError ? error.cause : null;
  if (!(cause instanceof SqlError && cause.sqlState.startsWith('28'))) return error;
  return new AppError('invalid_configuration', `The database server refused the login: ${cause.message}.`, {
    cause,
  });
}

/** Connects, runs, disconnects. What the driver throws arrives as the port's errors. */
export async function withClient<T>(url: string, work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: connectDeadlineMs,
    application_name: 'stoa set-up',
    statement_timeout: lockWaitMs,
  });
  // A connection that breaks between two statements must not end the process; the next statement rejects.
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await work(client);
  } catch (error) {
    throw error instanceof AppError ? error : refusedLogin(translateDriverError(error));
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** True where the login can connect to its database and is who it should be. */
async function canConnect(url: string, role: string): Promise<boolean> {
  try {
    return await withClient(url, async (client) => {
      const { rows } = await client.query<{ name: string }>('select current_user as name');
      return rows[0]?.name === role;
    });
  } catch {
    return false;
  }
}

/** True where all four can. */
export async function allCanConnect(urls: AllUrls): Promise<boolean> {
  const answers = await Promise.all([
    canConnect(urls.tenant, loginRoles.tenant),
    canConnect(urls.operator, loginRoles.operator),
    canConnect(urls.system, loginRoles.system),
    canConnect(urls.migration, loginRoles.migration),
  ]);
  return answers.every(Boolean);
}

/** Four new random passwords of 192 bits. */
export function randomPasswords(): Passwords {
  const make = (): string => randomBytes(passwordBytes).toString('base64url');
  return { tenant: make(), operator: make(), system: make(), migration: make() };
}

/** The password as the server stores it (RFC 5803), so that the plain one is in no statement and no server log. */
function scramVerifier(password: string): string {
  const iterations = 4096;
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, iterations, 32, 'sha256');
  const clientKey = createHmac('sha256', salted).update('Client Key').digest();
  const storedKey = createHash('sha256').update(clientKey).digest('base64');
  const serverKey = createHmac('sha256', salted).update('Server Key').digest('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

/**
 * Runs `work` while no other Stoa sets up roles on this server. Where the login may not connect to `postgres`, it runs
 * without the turn: a collision then shows itself as an error of the server, and nothing is half done.
 */
export async function inTurn<T>(adminUrl: string, work: () => Promise<T>): Promise<T> {
  const outcome = await withClient(changeUrl(adminUrl, { database: 'postgres' }), async (client) => {
    await client.query('select pg_advisory_lock($1::int8)', [turnNumber]);
    // Errors of the work itself must not be mistaken for "no turn to be had".
    return work().then(
      (value) => ({ kind: 'done' as const, value }),
      (error: unknown) => ({ kind: 'failed' as const, error }),
    );
  }).catch(() => null);
  if (outcome === null) return work();
  if (outcome.kind === 'failed') throw outcome.error;
  return outcome.value;
}

interface RoleRow {
  readonly name: string;
  readonly has_more: boolean;
  readonly is_member: boolean;
}

/** Names of the roles that exist. Throws `invalid_configuration` for one that has more than LOGIN or is in a group. */
export async function existingRoles(client: Client): Promise<ReadonlySet<string>> {
  const { rows } = await client.query<RoleRow>(
    `select rolname as name,
            rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication as has_more,
            exists (select from pg_auth_members where member = pg_roles.oid) as is_member
     from pg_roles where rolname = any ($1)`,
    [[...roleNames]],
  );
  const unfit = rows.find((row) => row.has_more || row.is_member);
  if (unfit !== undefined) {
    throw new AppError(
      'invalid_configuration',
      `The role ${unfit.name} exists and has more rights than Stoa's logins may have. Take away its attributes and memberships, or drop it.`,
    );
  }
  return new Set(rows.map((row) => row.name));
}

/** Makes the missing roles and sets the passwords of all. */
export async function writeRoles(
  client: Client,
  existing: ReadonlySet<string>,
  passwords: Passwords,
): Promise<void> {
  const logins: readonly (readonly [string, string])[] = [
    [loginRoles.tenant, passwords.tenant],
    [loginRoles.operator, passwords.operator],
    [loginRoles.system, passwords.system],
    [loginRoles.migration, passwords.migration],
  ];
  const statements = logins.map(([role, password]) => {
    const secret = `login password ${escapeLiteral(scramVerifier(password))}`;
    return existing.has(role)
      ? `alter role ${role} ${secret}`
      : `create role ${role} nosuperuser nocreatedb nocreaterole noinherit noreplication nobypassrls ${secret}`;
  });
  // One simple query is one transaction: all roles or none.
  await client.query(statements.join('; '));
}

/** What the logins need in one database, and what nobody else should have there. May be repeated. */
export async function prepareDatabase(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string; encoding: string }>(
    `select current_database() as name, current_setting('server_encoding') as encoding`,
  );
  const [row] = rows;
  if (row === undefined || row.encoding !== 'UTF8') {
    throw new AppError(
      'invalid_configuration',
      `The database's encoding is ${row?.encoding ?? 'unknown'}, and must be UTF8.`,
    );
  }
  const database = escapeIdentifier(row.name);
  await client.query(
    [
      'revoke all on schema public from public',
      `revoke all on database ${database} from public`,
      `grant connect on database ${database} to ${roleNames.join(', ')}`,
      `grant create on database ${database} to ${loginRoles.migration}`,
    ].join('; '),
  );
  await checkGrants(client, row.name);
}

/** A grant by a login that does not own the database is a warning to the server, and no grant. */
async function checkGrants(client: Client, database: string): Promise<void> {
  const { rows } = await client.query<{ is_granted: boolean }>(
    `select bool_and(has_database_privilege(name, current_database(), 'connect'))
            and has_database_privilege('stoa_migration', current_database(), 'create') as is_granted
     from unnest($1::text[]) as name`,
    [[...roleNames]],
  );
  if (rows[0]?.is_granted === true) return;
  throw new AppError(
    'invalid_configuration',
    `The login could not grant rights in the database ${database}. It must own the database, or be a superuser.`,
  );
}

/** Creates the database where it is missing; the login needs CREATEDB or to be a superuser. */
export async function createDatabase(adminUrl: string, database: string): Promise<boolean> {
  return withClient(changeUrl(adminUrl, { database: 'postgres' }), async (client) => {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [database]);
    if (rowCount !== 0) return false;
    try {
      await client.query(`create database ${escapeIdentifier(database)} encoding 'UTF8' template template0`);
      return true;
    } catch (error) {
      // 42P04 or a violation of the catalog's unique index: somebody else made it in the meantime.
      if (error instanceof DatabaseError && (error.code === '42P04' || error.code === '23505')) return false;
      if (!(error instanceof DatabaseError && error.code === '42501')) throw error;
      throw new AppError(
        'invalid_configuration',
        `The database ${database} does not exist, and this login may not create it.`,
        { cause: error },
      );
    }
  });
}

/**
 * What `stoa db setup` does: makes the four logins with new random passwords, and prepares the database. Logins that
 * exist get new passwords, and a notice says so, since every process with the old ones must be given the new. With
 * `database`, that one is used and made where it is missing; without, the one that `adminUrl` names, which must exist.
 * Rejects with `database_unavailable`, `invalid_configuration` or the server's own refusal (SqlError). May be repeated.
 */
export async function setUpRoles(
  adminUrl: string,
  options: { readonly database?: string } = {},
): Promise<RoleSetUp> {
  const database = options.database ?? databaseOf(adminUrl);
  const passwords = randomPasswords();
  const notices: string[] = [];
  if (options.database !== undefined && (await createDatabase(adminUrl, database))) {
    notices.push(`The database ${database} was created.`);
  }
  await inTurn(adminUrl, async () => {
    await withClient(changeUrl(adminUrl, { database }), async (client) => {
      const existing = await existingRoles(client);
      await writeRoles(client, existing, passwords);
      await prepareDatabase(client);
      if (existing.size > 0) {
        notices.push(
          `These logins existed and have new passwords, for every database of this server: ${[...existing].sort().join(', ')}.`,
        );
      }
    });
  });
  return { urls: loginUrls(adminUrl, database, passwords), notices };
}
