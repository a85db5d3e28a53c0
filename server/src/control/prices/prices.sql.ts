import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle } from '#db';

type Handle = SystemHandle | OperatorHandle;

export interface StateRow {
  readonly revision: bigint;
  readonly book: string | null;
}

export interface OverrideRow {
  readonly revision: bigint;
  readonly price_id: string;
  readonly target: string | null;
  readonly provider: string | null;
  readonly model: string | null;
  readonly terms: string | null;
  readonly valid_from: Date;
  readonly note: string | null;
  readonly created_by: string;
}

/** The one row that says what is in force. Each process asks for it every second. */
export async function selectState(tx: Handle): Promise<StateRow> {
  const { rows } = await sql<StateRow>`select revision, book from platform.price_state`.execute(tx);
  return one(rows);
}

/** Takes the turn to change prices, until the transaction ends: one change after the other, in the order of commits. */
export async function lockState(tx: Handle): Promise<StateRow> {
  const { rows } = await sql<StateRow>`
    update platform.price_state set revision = revision returning revision, book
  `.execute(tx);
  return one(rows);
}

/** Puts a revision in force. The caller holds the row's lock. */
export async function updateState(tx: Handle, state: StateRow): Promise<void> {
  await sql`update platform.price_state set revision = ${state.revision}, book = ${state.book}`.execute(tx);
}

/**
 * What is stated now or for later, up to a revision: of each subject the newest statement that was valid a day ago, and
 * what is newer. Without the bound, a change that commits between two statements would be part of the revision before
 * it. By primary key; a handful of rows for each subject.
 */
export async function selectOverrides(tx: Handle, revision: bigint): Promise<readonly OverrideRow[]> {
  const { rows } = await sql<OverrideRow>`
    select revision, price_id, target, provider, model, terms, valid_from, note, created_by
    from platform.prices stated
    where stated.revision <= ${revision} and not exists (
      select from platform.prices newer
      where newer.price_id = stated.price_id and newer.revision > stated.revision and newer.revision <= ${revision}
        and newer.valid_from <= greatest(stated.valid_from, now() - interval '1 day')
    )
    order by revision desc, price_id
  `.execute(tx);
  return rows;
}

export async function selectBook(
  tx: Handle,
  name: string,
): Promise<{ readonly content: string; readonly content_hash: string } | undefined> {
  const { rows } = await sql<{ content: string; content_hash: string }>`
    select content, content_hash from platform.price_books where name = ${name}
  `.execute(tx);
  return rows[0];
}

/** Keeps an edition; one that is kept already stays as it is. */
export async function insertBook(
  tx: Handle,
  book: { readonly name: string; readonly content: string; readonly contentHash: string },
): Promise<void> {
  await sql`
    insert into platform.price_books (name, content, content_hash)
    values (${book.name}, ${book.content}, ${book.contentHash})
    on conflict (name) do nothing
  `.execute(tx);
}

export async function insertRevision(
  tx: Handle,
  row: {
    readonly revision: bigint;
    readonly book: string;
    readonly kind: 'seed' | 'override' | 'removal' | 'import';
    readonly createdBy: string;
  },
): Promise<void> {
  await sql`
    insert into platform.price_revisions (revision, book, kind, created_by)
    values (${row.revision}, ${row.book}, ${row.kind}, ${row.createdBy})
  `.execute(tx);
}

/** Appends statements, at most 5,000, in one round trip. */
export async function insertOverrides(tx: OperatorHandle, rows: readonly OverrideRow[]): Promise<void> {
  await sql`
    insert into platform.prices (revision, price_id, target, provider, model, terms, valid_from, note, created_by)
    select * from unnest(
      ${rows.map((row) => row.revision)}::bigint[], ${rows.map((row) => row.price_id)}::text[],
      ${rows.map((row) => row.target)}::text[], ${rows.map((row) => row.provider)}::text[],
      ${rows.map((row) => row.model)}::text[], ${rows.map((row) => row.terms)}::text[],
      ${rows.map((row) => row.valid_from)}::timestamptz[], ${rows.map((row) => row.note)}::text[],
      ${rows.map((row) => row.created_by)}::text[]
    )
  `.execute(tx);
}

function one<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error('the state of the price book has no row');
  return row;
}
