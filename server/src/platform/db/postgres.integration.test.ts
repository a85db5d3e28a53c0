import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { contractIdleLimitMs, describeDatabaseContract } from './contract.ts';
import { type Database, openDatabase } from './index.ts';
import { changeUrl } from './postgres/urls.ts';

const tenantId = '00000000-0000-4000-8000-00000000000d';
const isUnavailable = (error: unknown): boolean =>
  error instanceof AppError && error.code === 'database_unavailable';

/** A TCP relay in front of the server, whose line can be cut, silenced and mended. */
class Relay {
  readonly #sockets = new Set<Socket>();
  #mode: 'open' | 'refusing' | 'silent' = 'open';
  readonly #server = createServer((inner) => this.#accept(inner));
  readonly #target: URL;

  constructor(target: string) {
    this.#target = new URL(target);
  }

  async start(): Promise<void> {
    const listening = Promise.withResolvers<void>();
    this.#server.listen(0, '127.0.0.1', () => listening.resolve());
    await listening.promise;
  }

  url(url: string): string {
    const changed = new URL(url);
    const address = this.#server.address();
    changed.hostname = '127.0.0.1';
    changed.port = String(isAddress(address) ? address.port : 0);
    return changed.href;
  }

  set(mode: 'open' | 'refusing' | 'silent'): void {
    this.#mode = mode;
    if (mode === 'refusing') for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    for (const socket of this.#sockets) socket.destroy();
    await closed.promise;
  }

  #accept(inner: Socket): void {
    if (this.#mode === 'refusing') {
      inner.destroy();
      return;
    }
    const outer = connect(Number(this.#target.port || 5432), this.#target.hostname);
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (bytes) => {
        if (this.#mode === 'open') to.write(bytes);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}

function isAddress(address: AddressInfo | string | null): address is AddressInfo {
  return typeof address === 'object' && address !== null;
}

function describeOutages(): void {
  let database: TestDatabase;
  let relay: Relay;
  let db: Database;
  before(async () => {
    database = await openTestDatabase({ adapter: 'postgres', migrations: [] });
    const { urls } = database;
    assert.ok(urls !== undefined);
    relay = new Relay(urls.tenant);
    await relay.start();
    db = await openDatabase({
      adapter: 'postgres',
      urls: {
        tenant: relay.url(urls.tenant),
        operator: relay.url(urls.operator),
        system: relay.url(urls.system),
      },
      pools: { tenant: 2 },
    });
  });
  after(async () => {
    relay.set('open');
    await db.close();
    await relay.stop();
    await database.close();
  });

  const ask = (deadlineMs = 5000): Promise<unknown> =>
    db.withTenant({ tenantId }, (tx) => sql`select 1`.execute(tx), { deadlineMs });

  test('a lost server rejects with its code, ends nobody, and is found again by itself', async () => {
    await ask();
    relay.set('refusing');
    await assert.rejects(ask(), isUnavailable);
    await assert.rejects(db.ping(), isUnavailable);
    relay.set('open');
    await ask();
  });

  test('a connection that breaks under a statement rejects it, and the next caller is served', async () => {
    const broken = db.withTenant({ tenantId }, (tx) => sql`select pg_sleep(30)`.execute(tx), {
      deadlineMs: 60_000,
    });
    const cutting = (async () => {
      // The statement is at the server once its sleep shows there.
      for (;;) {
        // A login sees what its own sessions wait for, so the tenant login looks.
        const { rows } = await db.withTenant({ tenantId }, (tx) =>
          sql`select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`.execute(
            tx,
          ),
        );
        if (rows.length > 0) break;
      }
      relay.set('refusing');
    })();
    await assert.rejects(broken, isUnavailable);
    await cutting;
    relay.set('open');
    await ask();
  });

  test('idle connections that died unnoticed cost one more try, not an error', async () => {
    await Promise.all([ask(), ask()]);
    relay.set('refusing');
    relay.set('open');
    await Promise.all([ask(), ask()]);
  });

  test('a server that accepts and never answers costs no more than the deadline', async () => {
    relay.set('silent');
    const startedAt = performance.now();
    await assert.rejects(ask(200));
    assert.ok(performance.now() - startedAt < 2000);
    relay.set('refusing');
    relay.set('open');
    await ask();
  });

  test('a statement that the server cancelled at its deadline leaves the connection in use', async () => {
    const backend = async (): Promise<unknown> =>
      (await db.withTenant({ tenantId }, (tx) => sql`select pg_backend_pid() as pid`.execute(tx))).rows;
    const pidBefore = await backend();
    await assert.rejects(
      db.withTenant({ tenantId }, (tx) => sql`select pg_sleep(30)`.execute(tx), { deadlineMs: 50 }),
      (error) => error instanceof AppError && error.code === 'deadline_exceeded',
    );
    assert.deepEqual(await backend(), pidBefore);
  });

  test('a process without the migration login serves, and is refused migrating', async () => {
    assert.equal(await db.schemaState([]), 'current');
    await assert.rejects(
      db.migrate([]),
      (error) => error instanceof AppError && error.code === 'invalid_configuration',
    );
  });

  test('a URL for a login that does not exist is an outage of the database, not an error of the caller', async () => {
    const { urls } = database;
    assert.ok(urls !== undefined);
    const unknown = changeUrl(urls.tenant, { user: 'stoa_nobody' });
    const other = await openDatabase({
      adapter: 'postgres',
      urls: { tenant: unknown, operator: unknown, system: unknown },
    });
    await assert.rejects(
      other.withTenant({ tenantId }, async () => undefined),
      isUnavailable,
    );
    await other.close();
  });
}

if (process.env['STOA_TEST_SERVICES'] === '1') {
  describeDatabaseContract('postgres', async (migrations) => {
    const database = await openTestDatabase({ adapter: 'postgres', migrations });
    assert.ok(database.urls !== undefined);
    const db = await openDatabase({
      adapter: 'postgres',
      urls: database.urls,
      idleLimitMs: contractIdleLimitMs,
    });
    return {
      db,
      async close() {
        await db.close();
        await database.close();
      },
    };
  });
  describe('the database port on postgres, when the server is lost', describeOutages);
} else {
  describe('the database port on postgres', { skip: 'needs PostgreSQL: npm run test:services' }, () => {});
}
