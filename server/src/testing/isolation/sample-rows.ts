/**
 * Rows for any tenant table, made from the catalog alone, so that a table that is added tomorrow is fuzzed without
 * anybody thinking of it. Runs as a superuser inside a transaction that is rolled back: check constraints are dropped
 * and triggers (foreign keys among them) switched off, since neither protects tenants from each other.
 */

import { randomUUID } from 'node:crypto';
import type { SuperuserSession } from './superuser.ts';

export interface Column {
  readonly name: string;
  readonly type: string;
}

export interface TenantTable {
  /** Quoted and qualified: `tenant.api_keys`. */
  readonly name: string;
  readonly columns: readonly Column[];
  /** Values that put a row into a partition that exists, by column. */
  readonly partitionValues: ReadonlyMap<string, string>;
}

const tableSql = `
  select c.oid::regclass::text as name, c.relkind = 'p' as is_parent,
         pg_get_expr(c.relpartbound, c.oid) as own_bound,
         (select pg_get_partkeydef(i.inhparent) from pg_inherits i where i.inhrelid = c.oid and c.relispartition) as own_key,
         pg_get_partkeydef(c.oid) as parent_key,
         (select pg_get_expr(child.relpartbound, child.oid) from pg_inherits i join pg_class child on child.oid = i.inhrelid
          where i.inhparent = c.oid order by child.relname limit 1) as child_bound
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'tenant' and c.relkind in ('r', 'p') order by 1`;

const columnSql = `
  select a.attname as name, format_type(a.atttypid, a.atttypmod) as type
  from pg_attribute a
  where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity = ''
  order by a.attnum`;

/** The lower bound of a range partition of one column, as `column -> value`. */
function partitionValue(key: unknown, bound: unknown): ReadonlyMap<string, string> {
  const column = /^RANGE \((\w+)\)$/.exec(typeof key === 'string' ? key : '')?.[1];
  const value = /FROM \('([^']+)'\)/.exec(typeof bound === 'string' ? bound : '')?.[1];
  return column === undefined || value === undefined ? new Map() : new Map([[column, value]]);
}

/** Every table and partition of the schema tenant. */
export async function tenantTables(session: SuperuserSession): Promise<readonly TenantTable[]> {
  const tables: TenantTable[] = [];
  for (const row of await session.run(tableSql)) {
    const name = String(row['name']);
    const columns = (await session.run(columnSql, [name])).map((column) => ({
      name: String(column['name']),
      type: String(column['type']),
    }));
    const isParent = row['is_parent'] === true;
    const partitionValues = isParent
      ? partitionValue(row['parent_key'], row['child_bound'])
      : partitionValue(row['own_key'], row['own_bound']);
    tables.push({ name, columns, partitionValues });
  }
  return tables;
}

/** Takes away what stands in the way of arbitrary rows; for the transaction that is rolled back. */
export async function allowAnyRows(session: SuperuserSession): Promise<void> {
  await session.run(`
    set local session_replication_role = replica;
    do $$
    declare
      found record;
    begin
      for found in
        select conrelid::regclass as target, conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where k.contype = 'c' and n.nspname = 'tenant' and not c.relispartition
      loop
        execute format('alter table %s drop constraint %I', found.target, found.conname);
      end loop;
    end
    $$`);
}

const valuesByType: Readonly<Record<string, () => string>> = {
  uuid: randomUUID,
  text: () => `x${randomUUID().replaceAll('-', '').slice(0, 11)}`,
  bigint: () => String(Math.floor(Math.random() * 1e9)),
  integer: () => String(Math.floor(Math.random() * 1e6)),
  smallint: () => '7',
  boolean: () => 'true',
  bytea: () => `\\x${randomUUID().replaceAll('-', '')}`,
  'timestamp with time zone': () => new Date().toISOString(),
  date: () => '2026-01-01',
  'double precision': () => '1.5',
  json: () => '{}',
  jsonb: () => '{}',
  xid8: () => '1',
};

/** A value of a type as text; throws for a type that nobody has used before, so that it is added here. */
export function valueOf(type: string): string {
  if (type.endsWith('[]')) return '{}';
  const make = valuesByType[type] ?? (type.startsWith('numeric') ? () => '1' : undefined);
  if (make === undefined) throw new Error(`sample-rows.ts has no value for the type ${type}`);
  return make();
}

/** An insert of one row of the tenant, and its parameters. */
export function insertOf(
  table: TenantTable,
  tenantId: string,
): { readonly text: string; readonly values: string[] } {
  const names = table.columns.map(({ name }) => `"${name}"`).join(', ');
  const places = table.columns.map(({ type }, index) => `$${index + 1}::text::${type}`).join(', ');
  const values = table.columns.map(({ name, type }) =>
    name === 'tenant_id' ? tenantId : (table.partitionValues.get(name) ?? valueOf(type)),
  );
  return { text: `insert into ${table.name} (${names}) values (${places})`, values };
}
