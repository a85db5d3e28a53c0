import {
  type CompiledQuery,
  type DatabaseConnection,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely';
import { AppError } from '#kernel';
import type { EncodedParameter, Session } from './session.ts';
import { databaseUnavailable } from './sql-error.ts';
import { statementFacts } from './statement-check.ts';
import type { NoTables } from './types.ts';
import { encodeParameter } from './value-encoder.ts';

/** The row type is what the author of the SQL says it is; the query's own tests hold it to that. */
function asRowsOf<R>(rows: readonly unknown[]): R[];
function asRowsOf(rows: readonly unknown[]): readonly unknown[] {
  return rows;
}

export interface TransactionLimits {
  /** For each statement. */
  readonly deadlineMs: number;
  /** Between two statements. */
  readonly idleLimitMs: number;
}

/**
 * One transaction as Kysely sees it. Statements of one transaction run one after the other, in the order they were
 * asked for. After `end` every further statement is refused, so that work that outlives its door can't reach the
 * connection's next user.
 */
export class TransactionConnection implements DatabaseConnection {
  #last: Promise<unknown> = Promise.resolve();
  #hasFailed = false;
  #endedBy: Error | null = null;
  #idleTimer: NodeJS.Timeout | undefined;
  readonly #idled = Promise.withResolvers<never>();
  readonly #idleLimitMs: number;
  readonly #session: Session;
  readonly #deadlineMs: number;
  readonly #check: (text: string) => void;

  constructor(session: Session, limits: TransactionLimits, check: (text: string) => void) {
    this.#session = session;
    this.#deadlineMs = limits.deadlineMs;
    this.#idleLimitMs = limits.idleLimitMs;
    this.#check = check;
    this.#idled.promise.catch(() => undefined);
    this.#watchIdle();
  }

  async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
    const { refusal } = statementFacts(query.sql);
    if (refusal !== null) throw new AppError('internal_error', `A statement was refused: ${refusal}.`);
    this.#check(query.sql);
    const parameters = query.parameters.map(encodeParameter);
    const run = this.#last.then(() => this.#run<R>(query.sql, parameters));
    this.#last = run.catch(() => undefined);
    return run;
  }

  streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new AppError('internal_error', 'Streaming a query is not supported: read in pages.');
  }

  /** Rejects once the transaction has stood still for too long; never resolves. */
  get idled(): Promise<never> {
    return this.#idled.promise;
  }

  /** Refuses every further statement with `reason`, and waits for the one that runs. */
  async end(reason: Error): Promise<void> {
    this.#endedBy ??= reason;
    clearTimeout(this.#idleTimer);
    await this.#last;
    clearTimeout(this.#idleTimer);
  }

  /** True where a statement failed and no savepoint took it back: PostgreSQL would answer COMMIT with a rollback. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Why the transaction can't go on, or null. */
  get endedBy(): Error | null {
    return this.#endedBy;
  }

  async #run<R>(text: string, parameters: readonly EncodedParameter[]): Promise<QueryResult<R>> {
    if (this.#endedBy !== null) throw this.#endedBy;
    if (!this.#session.isUsable()) throw databaseUnavailable(new Error('the connection was lost'));
    clearTimeout(this.#idleTimer);
    try {
      const result = await this.#session.query(text, parameters, this.#deadlineMs);
      if (this.#hasFailed && /^\s*rollback\s+to\b/i.test(text)) this.#hasFailed = false;
      const rows = asRowsOf<R>(result.rows);
      return result.affectedRows === null ? { rows } : { rows, numAffectedRows: BigInt(result.affectedRows) };
    } catch (error) {
      this.#hasFailed = true;
      throw error;
    } finally {
      this.#watchIdle();
    }
  }

  #watchIdle(): void {
    if (this.#endedBy !== null) return;
    this.#idleTimer = setTimeout(() => {
      const error = new AppError('deadline_exceeded', 'A transaction stood still for too long.', {
        details: { idleLimitMs: this.#idleLimitMs },
      });
      this.#endedBy ??= error;
      this.#idled.reject(error);
    }, this.#idleLimitMs);
  }
}

/** Hands Kysely the one connection of the transaction; a transaction inside it is a mistake of the caller. */
class TransactionDriver extends DummyDriver {
  readonly #connection: DatabaseConnection;

  constructor(connection: DatabaseConnection) {
    super();
    this.#connection = connection;
  }

  override async acquireConnection(): Promise<DatabaseConnection> {
    return this.#connection;
  }

  override async beginTransaction(): Promise<void> {
    throw new AppError('internal_error', 'A transaction was opened inside a door.');
  }
}

const adapter = new PostgresAdapter();
const compiler = new PostgresQueryCompiler();

/** A Kysely over one open transaction. Costs a few microseconds; its life is the transaction's. */
export function kyselyOn(connection: DatabaseConnection): Kysely<NoTables> {
  return new Kysely<NoTables>({
    dialect: {
      createAdapter: () => adapter,
      createDriver: () => new TransactionDriver(connection),
      createQueryCompiler: () => compiler,
      createIntrospector: (db) => new PostgresIntrospector(db),
    },
  });
}
