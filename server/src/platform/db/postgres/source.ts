/**
 * Sessions over PostgreSQL: one pool for each login. A lost server rejects what runs and what waits, and never ends the
 * process; the pools connect anew by themselves at the next call.
 *
 * Deadlines stand twice. The server cancels a statement at `statement_timeout`, which leaves the connection usable. A
 * server that doesn't even answer that is met half a second later by our own timer, which destroys the connection.
 */

import { Pool, type PoolClient, type PoolConfig } from 'pg';
import { AppError } from '#kernel';
import {
  defaultIdleLimitMs,
  type Door,
  type EncodedParameter,
  type Session,
  type SessionSource,
  type StatementResult,
} from '../session.ts';
import { databaseUnavailable, deadlineExceeded, translateSqlError } from '../sql-error.ts';
import type { PostgresSettings } from '../types.ts';
import { parserOf, type ValueParser } from '../value-parsers.ts';

const connectDeadlineMs = 5000;
const serverGraceMs = 500;
const largestQueue = 1000;

function getTypeParser(type: number): ValueParser {
  return parserOf(type);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** A five-character SQLSTATE means that the server spoke; anything else (ECONNRESET, no code) that it didn't. */
const statePattern = /^[0-9A-Z]{5}$/;

/** What the driver threw, as the port's error. */
export function translateDriverError(error: unknown): unknown {
  if (!(error instanceof Error)) return databaseUnavailable(error);
  const raw: Record<string, unknown> = Object.fromEntries(Object.entries(error));
  const code = textOf(raw['code']);
  // EPIPE has the shape of a SQLSTATE; the driver's own class is the surer sign.
  if (code === undefined || !statePattern.test(code) || !('severity' in error))
    return databaseUnavailable(error);
  return translateSqlError(error.message, {
    code,
    constraint: textOf(raw['constraint']),
    table: textOf(raw['table']),
    detail: textOf(raw['detail']),
    where: textOf(raw['where']),
  });
}

function asDriverValue(value: EncodedParameter): string | Buffer | null {
  return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value;
}

const writingCommands: ReadonlySet<string> = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE']);

class PostgresSession implements Session {
  readonly #client: PoolClient;
  #isUsable = true;
  readonly #onError = (): void => {
    this.#isUsable = false;
  };

  constructor(client: PoolClient) {
    this.#client = client;
    // A checked-out client without a listener would end the process when its connection breaks.
    client.on('error', this.#onError);
  }

  async script(sql: string, deadlineMs: number): Promise<void> {
    await this.#within(deadlineMs, async () => this.#client.query(sql));
  }

  async query(
    text: string,
    parameters: readonly EncodedParameter[],
    deadlineMs: number,
  ): Promise<StatementResult> {
    // Always the extended protocol: it takes one statement and no more, also without parameters.
    // The driver sends bytes in binary format, which for a text is its UTF-8.
    const request = {
      text,
      values: parameters.map(asDriverValue),
      queryMode: 'extended',
      types: { getTypeParser },
    };
    const result = await this.#within(deadlineMs, async () =>
      this.#client.query<Record<string, unknown>>(request),
    );
    return { rows: result.rows, affectedRows: writingCommands.has(result.command) ? result.rowCount : null };
  }

  isUsable(): boolean {
    return this.#isUsable;
  }

  release(isClean: boolean): void {
    const isKept = isClean && this.#isUsable;
    if (isKept) this.#client.removeListener('error', this.#onError);
    this.#client.release(!isKept);
  }

  async #within<T>(deadlineMs: number, work: () => Promise<T>): Promise<T> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      this.#isUsable = false;
      late.reject(deadlineExceeded('a statement; the server did not answer'));
    }, deadlineMs + serverGraceMs);
    try {
      const running = work();
      running.catch(() => undefined);
      return await Promise.race([running, late.promise]);
    } catch (error) {
      if (error instanceof AppError) throw error;
      const translated = translateDriverError(error);
      if (translated instanceof AppError && translated.code === 'database_unavailable')
        this.#isUsable = false;
      throw translated;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A client that arrives after its caller has gone goes back to the pool. */
function returnLate(connecting: Promise<PoolClient>): void {
  connecting.then(
    (client) => client.release(),
    () => undefined,
  );
}

async function connectWithin(
  pool: Pool,
  deadlineMs: number,
  signal: AbortSignal | undefined,
): Promise<PoolClient> {
  if (pool.waitingCount >= largestQueue) {
    throw new AppError('overloaded', 'Too many transactions wait for the database.', { retryAfterMs: 1000 });
  }
  const connecting = pool.connect();
  const given = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => given.reject(databaseUnavailable(new Error('no connection in time'))),
    deadlineMs,
  );
  const onAbort = (): void => given.reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  let client: PoolClient | null = null;
  try {
    client = await Promise.race([connecting, given.promise]);
    return client;
  } catch (error) {
    if (signal?.aborted === true || error instanceof AppError) throw error;
    const translated = translateDriverError(error);
    throw translated instanceof AppError ? translated : databaseUnavailable(translated);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    if (client === null) returnLate(connecting);
  }
}

class PooledSource implements SessionSource {
  readonly adapter = 'postgres';
  readonly idleLimitMs: number;
  readonly #pools: ReadonlyMap<Door, Pool>;
  #closing: Promise<void> | null = null;

  constructor(settings: PostgresSettings) {
    const { urls, pools } = settings;
    this.idleLimitMs = settings.idleLimitMs ?? defaultIdleLimitMs;
    const base: PoolConfig = {
      application_name: settings.applicationName ?? 'stoa',
      connectionTimeoutMillis: connectDeadlineMs,
      idleTimeoutMillis: 30_000,
      keepAlive: true,
    };
    const made: [Door, Pool][] = [
      ['tenant', new Pool({ ...base, connectionString: urls.tenant, max: pools?.tenant ?? 10 })],
      ['operator', new Pool({ ...base, connectionString: urls.operator, max: pools?.operator ?? 4 })],
      ['system', new Pool({ ...base, connectionString: urls.system, max: pools?.system ?? 4 })],
    ];
    if (urls.migration !== undefined) {
      made.push([
        'migration',
        new Pool({ ...base, connectionString: urls.migration, max: 1, idleTimeoutMillis: 1000 }),
      ]);
    }
    // An idle connection that breaks is removed by the pool; the listener only keeps the process alive.
    for (const [, pool] of made) pool.on('error', () => undefined);
    this.#pools = new Map(made);
  }

  begin(): string {
    return 'begin';
  }

  async acquire(door: Door, deadlineMs: number, signal: AbortSignal | undefined): Promise<Session> {
    const pool = this.#pools.get(door);
    if (pool === undefined) {
      throw new AppError('invalid_configuration', `No database URL is set for the ${door} login.`);
    }
    if (this.#closing !== null) throw databaseUnavailable(new Error('the database is closed'));
    return new PostgresSession(await connectWithin(pool, deadlineMs, signal));
  }

  async close(): Promise<void> {
    this.#closing ??= Promise.all([...this.#pools.values()].map(async (pool) => pool.end())).then(
      () => undefined,
    );
    await this.#closing;
  }
}

/** Pools for PostgreSQL; connects at the first use, so that a server which is away delays nothing. */
export function openPostgres(settings: PostgresSettings): SessionSource {
  return new PooledSource(settings);
}
