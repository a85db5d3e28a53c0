/** What the suite of the database port works on: a table of two tenants, and a folder of migrations. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ErrorCode } from '@stoa/contracts';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import type { Database, MigrationSet, TenantHandle } from '../index.ts';

export const probeSql = `
create table tenant.probes (
  tenant_id uuid not null,
  name text not null,
  amount bigint not null default 0,
  primary key (tenant_id, name)
);
select platform.protect_tenant_table('tenant.probes',
  tenant_verbs => 'select, insert, update, delete',
  operator_verbs => 'select, insert, update, delete',
  system_verbs => 'select');
`;

export const first = '00000000-0000-4000-8000-00000000000a';
export const second = '00000000-0000-4000-8000-00000000000b';

/** A folder of migrations made for one test file; `write` adds or replaces a file. */
export class MigrationFolder {
  readonly set: MigrationSet;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.set = { module: 'test/probes', directory: pathToFileURL(`${folder}/`) };
  }

  static async make(): Promise<MigrationFolder> {
    const folder = new MigrationFolder(await mkdtemp(join(tmpdir(), 'stoa-migrations-')));
    await folder.write('0001-probes.sql', probeSql);
    return folder;
  }

  async write(name: string, text: string): Promise<void> {
    await writeFile(join(this.#folder, name), text);
  }

  async remove(name?: string): Promise<void> {
    await rm(name === undefined ? this.#folder : join(this.#folder, name), { recursive: true, force: true });
  }
}

export const insertProbe = (tx: TenantHandle, tenantId: string, name: string): Promise<unknown> =>
  sql`insert into tenant.probes (tenant_id, name) values (${tenantId}, ${name})`.execute(tx);

export async function names(tx: TenantHandle): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`select name from tenant.probes order by name`.execute(tx);
  return rows.map((row) => row.name);
}

export const hasCode =
  (code: ErrorCode) =>
  (error: unknown): boolean =>
    error instanceof AppError && error.code === code;

/** A statement that runs for minutes on both adapters. */
export const endless = sql`select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b`;

export async function one<T>(db: Database, query: ReturnType<typeof sql<T>>): Promise<T> {
  const { rows } = await db.withTenant({ tenantId: first }, (tx) => query.execute(tx));
  const [row] = rows;
  assert.ok(row !== undefined);
  return row;
}
