/**
 * The thread that PGlite runs in. PGlite blocks its thread for as long as a statement runs, and knows no working
 * statement timeout: in a thread of its own it blocks nobody else, and can be ended from outside.
 *
 * The session underneath is a superuser. Every transaction of a door begins with `set local role`, and migrations run
 * as `stoa_migration`, so that ownership, grants and row security are those of PostgreSQL.
 */

import { type MessagePort, parentPort } from 'node:worker_threads';
import { PGlite, parse } from '@electric-sql/pglite';
import type { EncodedParameter } from '../session.ts';
import type { SqlErrorFields } from '../sql-error.ts';
import { pgliteParsers } from '../value-parsers.ts';
import type { WorkerAnswer, WorkerReply, WorkerRequest, WorkerSettings } from './protocol.ts';
import { statementMessage } from './statement-message.ts';

/** What `stoa db setup` does on a server, for the one database of PGlite. Roles without login: `set role` suffices. */
const bootstrap = `
do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'stoa_migration') then
    create role stoa_tenant nologin noinherit;
    create role stoa_operator nologin noinherit;
    create role stoa_system nologin noinherit;
    create role stoa_migration nologin noinherit;
    revoke all on schema public from public;
    execute format('revoke all on database %I from public', current_database());
    execute format('grant create on database %I to stoa_migration', current_database());
  end if;
end $$;
set search_path = pg_catalog;
`;

/** Parameters arrive as PostgreSQL's text, so PGlite's own serialisers are all replaced by this one. */
const textSerializers = new Proxy<Record<number, (value: string) => string>>(
  {},
  { get: () => (value: string) => value },
);

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function fieldsOf(error: Error): SqlErrorFields {
  const raw: Record<string, unknown> = Object.fromEntries(Object.entries(error));
  return {
    code: textOf(raw['code']),
    constraint: textOf(raw['constraint']),
    table: textOf(raw['table']),
    detail: textOf(raw['detail']),
    hint: textOf(raw['hint']),
    where: textOf(raw['where']),
    position: textOf(raw['position']),
  };
}

/** Characters of parameters from which on a statement is put into bytes here; below it PGlite's own way costs less. */
const largeParameters = 16_384;

function isLarge(parameters: readonly EncodedParameter[]): boolean {
  return (
    parameters.some((text) => text instanceof Uint8Array) ||
    parameters.reduce((sum, text) => sum + (text?.length ?? 0), 0) >= largeParameters
  );
}

/** As `query` does, but for how the parameters become bytes. */
async function queryLarge(
  database: PGlite,
  sql: string,
  parameters: readonly EncodedParameter[],
): Promise<WorkerAnswer> {
  const message = statementMessage(sql, parameters);
  const { messages } = await database.runExclusive(() => database.execProtocol(message));
  const [result] = parse.parseResults(messages, {}, { parsers: pgliteParsers });
  return { rows: result?.rows ?? [], affectedRows: result?.affectedRows ?? null, dump: null };
}

const nothing: WorkerAnswer = { rows: [], affectedRows: null, dump: null };

async function execute(
  database: PGlite,
  request: Exclude<WorkerRequest, { kind: 'open' }>,
): Promise<WorkerAnswer> {
  switch (request.kind) {
    case 'script':
      await database.exec(request.sql);
      return nothing;
    case 'query': {
      if (isLarge(request.parameters)) return queryLarge(database, request.sql, request.parameters);
      const result = await database.query(request.sql, [...request.parameters], {
        parsers: pgliteParsers,
        serializers: textSerializers,
      });
      return { rows: result.rows, affectedRows: result.affectedRows ?? null, dump: null };
    }
    case 'dump': {
      const blob = await database.dumpDataDir('none');
      return { rows: [], affectedRows: null, dump: await blob.bytes() };
    }
    case 'close':
      await database.close();
      return nothing;
  }
}

function refusal(id: number, error: unknown): WorkerReply {
  if (error instanceof Error) return { kind: 'refusal', id, message: error.message, fields: fieldsOf(error) };
  return { kind: 'refusal', id, message: String(error), fields: {} };
}

/**
 * The log of one batch of settlement (3.6 MB for 1,000 records) fits its buffers and goes out in few writes, and a new
 * segment is not filled with zeros first, which guards against nothing but a full disk: a few us a record. What is kept of
 * old log for use again is bounded (see checkpoints.ts for when it becomes old). None of them touches what survives the death of the process. `full_page_writes` stays on: a kill may cut a page's write in two.
 */
const logSettings = ['-c', 'wal_buffers=4MB', '-c', 'wal_init_zero=off', '-c', 'max_wal_size=64MB'];

async function open(settings: WorkerSettings): Promise<PGlite> {
  const database = await PGlite.create({
    initDbStartParams: ['--wal-segsize=1'],
    startParams: [...PGlite.defaultStartParams, ...logSettings],
    ...(settings.directory === null ? {} : { dataDir: settings.directory }),
    ...(settings.snapshot === null ? {} : { loadDataDir: new Blob([new Uint8Array(settings.snapshot)]) }),
  });
  await database.exec(bootstrap);
  return database;
}

/** The first request opens the database; PGlite is one session, and the main thread sends one request at a time. */
function serve(port: MessagePort): void {
  let database: PGlite | null = null;
  const handle = async (request: WorkerRequest): Promise<WorkerReply> => {
    if (request.kind === 'open') {
      database = await open(request.settings);
      return { kind: 'answer', id: request.id, answer: nothing };
    }
    if (database === null) throw new Error('the database is not open');
    return { kind: 'answer', id: request.id, answer: await execute(database, request) };
  };
  port.on('message', (request: WorkerRequest) => {
    handle(request).then(
      (reply) => port.postMessage(reply, []),
      (error: unknown) => port.postMessage(refusal(request.id, error), []),
    );
  });
}

if (parentPort === null) throw new Error('this file runs as a worker only');
serve(parentPort);
