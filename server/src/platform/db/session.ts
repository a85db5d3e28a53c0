/**
 * What the doors need from a database, and the whole of what an adapter implements: a source of sessions, each one
 * connection that runs one transaction at a time.
 */

export type Door = 'tenant' | 'operator' | 'system' | 'migration';

/** Default of `idleLimitMs`: between two statements lies computing, never waiting. */
export const defaultIdleLimitMs = 10_000;

/** A text, a text as UTF-8, or NULL. */
export type EncodedParameter = string | Uint8Array | null;

export interface StatementResult {
  readonly rows: readonly unknown[];
  /** Rows written, or null where the statement writes none. */
  readonly affectedRows: number | null;
}

export interface Session {
  /**
   * Runs a script of several statements without parameters. Rejects with SqlError, `deadline_exceeded` or
   * `database_unavailable`.
   */
  script(sql: string, deadlineMs: number): Promise<void>;
  /** Runs one statement; parameters are as `encodeParameter` makes them. */
  query(text: string, parameters: readonly EncodedParameter[], deadlineMs: number): Promise<StatementResult>;
  /** False once the connection is lost or ended: nothing can be sent any more, the transaction is gone. */
  isUsable(): boolean;
  /** Gives the session back. `isClean` false: its state is unknown, end the connection. Called exactly once. */
  release(isClean: boolean): void;
}

export interface SessionSource {
  readonly adapter: 'pglite' | 'postgres';
  /** How long a transaction may stand still between two statements, in ms. */
  readonly idleLimitMs: number;
  /** Statements that open a transaction under the door's role; put before what the door itself sets. */
  begin(door: Door): string;
  /** Waits at most `deadlineMs`. Rejects with `database_unavailable`, `overloaded` or the signal's reason. */
  acquire(door: Door, deadlineMs: number, signal: AbortSignal | undefined): Promise<Session>;
  close(): Promise<void>;
}
