import { PGlite } from '@electric-sql/pglite';
import { Client } from 'pg';
import type { MigrationSet } from '#db';
import type { TestAdapter } from '../index.ts';
import { pgliteSnapshot } from '../pglite-snapshot.ts';
import { adminUrlOf, copyTemplate, dropDatabase } from '../postgres-template.ts';

export type Row = Readonly<Record<string, unknown>>;

/**
 * One session as a superuser of a migrated database of its own, outside of the port: the isolation tests read the
 * catalog with it, break the schema inside transactions that they roll back, and take on roles with `set local role`.
 */
export interface SuperuserSession {
  /** One statement with parameters, or several without. Answers the rows of the last one. */
  run(text: string, parameters?: readonly unknown[]): Promise<readonly Row[]>;
  close(): Promise<void>;
}

async function pgliteSuperuser(migrations: readonly MigrationSet[]): Promise<SuperuserSession> {
  const snapshot = await pgliteSnapshot(migrations);
  const database = await PGlite.create({ loadDataDir: new Blob([new Uint8Array(snapshot)]) });
  return {
    async run(text, parameters) {
      if (parameters !== undefined) return (await database.query<Row>(text, [...parameters])).rows;
      const results = await database.exec(text);
      return results.at(-1)?.rows ?? [];
    },
    close: () => database.close(),
  };
}

async function postgresSuperuser(migrations: readonly MigrationSet[]): Promise<SuperuserSession> {
  const { name } = await copyTemplate(migrations);
  const client = new Client({ connectionString: adminUrlOf(name), application_name: 'stoa isolation test' });
  await client.connect();
  return {
    async run(text, parameters) {
      if (parameters !== undefined) return (await client.query<Row>(text, [...parameters])).rows;
      // Several statements answer with an array of results, which the driver's types leave out.
      const results: unknown = await client.query(text);
      const last: unknown = Array.isArray(results) ? results.at(-1) : results;
      return hasRows(last) ? last.rows : [];
    },
    async close() {
      await client.end();
      await dropDatabase(name);
    },
  };
}

function hasRows(result: unknown): result is { readonly rows: readonly Row[] } {
  return typeof result === 'object' && result !== null && 'rows' in result && Array.isArray(result.rows);
}

/** Opens a migrated database of its own as a superuser. */
export async function openAsSuperuser(
  adapter: TestAdapter,
  migrations: readonly MigrationSet[],
): Promise<SuperuserSession> {
  return adapter === 'postgres' ? postgresSuperuser(migrations) : pgliteSuperuser(migrations);
}

/** Runs `work` in a transaction that is always rolled back. */
export async function rolledBack<T>(session: SuperuserSession, work: () => Promise<T>): Promise<T> {
  await session.run('begin');
  try {
    return await work();
  } finally {
    await session.run('rollback');
  }
}
