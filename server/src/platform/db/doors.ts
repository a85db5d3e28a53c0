/**
 * The three doors, over any source of sessions.
 *
 * A door is: wait for a session; `begin` and the identity in one round trip; the callback; `commit` or `rollback`. Every
 * wait has the door's deadline, and whoever aborts gets its answer at once while the session is cleaned up behind: the
 * statement that runs ends by its own deadline, then the transaction is rolled back and the session given back.
 *
 * What can go wrong on the way, and what happens: a pooled connection that died while it was idle shows itself at
 * `begin`, where nothing has been done yet, so one other session is tried; a connection lost later rejects with
 * `database_unavailable`, and whether the commit happened is then unknown (callers that must know make their writes
 * idempotent); a statement that failed unnoticed by the callback turns the commit into an error instead of a silent
 * rollback.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { AppError, readableThrown } from '#kernel';
import { auditOfOperator, auditOfSystem, auditOfTenant } from './audit/audit.ts';
import { type JobGrants, type SystemJob, systemGrants } from './grants.ts';
import type { Door, Session, SessionSource } from './session.ts';
import { abortReason, databaseUnavailable } from './sql-error.ts';
import { firstMissingGrant, statementFacts } from './statement-check.ts';
import { kyselyOn, TransactionConnection } from './transaction.ts';
import {
  type DoorCounts,
  type DoorOptions,
  door as doorBrand,
  type OperatorContext,
  type OperatorHandle,
  type SystemHandle,
  type TenantContext,
  type TenantHandle,
} from './types.ts';

const defaultDeadlineMs = 5000;
const largestDeadlineMs = 600_000;
/** The server cuts an idle transaction only where this process could not. */
const serverIdleGraceMs = 1000;

/** Lower case only, so that one tenant has one spelling wherever an id is a key. */
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The door that is open in this asynchronous context; `isOpen` turns false when it ends, for work that outlives it. */
const openDoor = new AsyncLocalStorage<{ isOpen: boolean }>();

interface Passage<T> {
  readonly door: Door;
  /** Statements after `begin`, without parameters. */
  readonly identity: string;
  readonly check: (text: string) => void;
  readonly body: (connection: TransactionConnection) => Promise<T>;
  readonly options: DoorOptions | undefined;
}

function deadlineOf(options: DoorOptions | undefined): number {
  const deadlineMs = options?.deadlineMs ?? defaultDeadlineMs;
  if (!Number.isInteger(deadlineMs) || deadlineMs < 1 || deadlineMs > largestDeadlineMs) {
    throw new AppError('internal_error', 'A deadline must be a whole number of milliseconds, 1 to 600,000.');
  }
  return deadlineMs;
}

function checkTenantId(tenantId: string): string {
  if (!uuidPattern.test(tenantId)) {
    throw new AppError('internal_error', 'A tenant id must be a UUID in lower case.');
  }
  return tenantId;
}

/**
 * The settings of one transaction. All of them here and none at the connection, so that a pooler between us and the
 * server (transaction mode) changes nothing. The search_path holds no schema of ours: tables are always qualified.
 */
function sessionSettings(deadlineMs: number, idleLimitMs: number): string {
  return (
    `set_config('search_path', 'pg_catalog', true), set_config('timezone', 'UTC', true), ` +
    `set_config('datestyle', 'ISO', true), set_config('bytea_output', 'hex', true), ` +
    `set_config('statement_timeout', '${deadlineMs}', true), ` +
    `set_config('idle_in_transaction_session_timeout', '${idleLimitMs}', true)`
  );
}

async function openTransaction(
  source: SessionSource,
  passage: Passage<unknown>,
  deadlineMs: number,
): Promise<Session> {
  const begin = `${source.begin(passage.door)}; select ${sessionSettings(deadlineMs, source.idleLimitMs + serverIdleGraceMs)}${passage.identity}`;
  for (let attempt = 1; ; attempt += 1) {
    // oxlint's no-await-in-loop does not apply: the second turn exists only after the first one failed.
    const session = await source.acquire(passage.door, deadlineMs, passage.options?.signal);
    try {
      await session.script(begin, deadlineMs);
      return session;
    } catch (error) {
      const wasLost = !session.isUsable();
      session.release(false);
      if (!wasLost || attempt === 2) throw error;
    }
  }
}

async function commit(
  session: Session,
  connection: TransactionConnection,
  deadlineMs: number,
): Promise<void> {
  if (connection.endedBy !== null) throw connection.endedBy;
  await connection.end(new AppError('internal_error', 'A statement was sent after its door had closed.'));
  if (!session.isUsable()) throw databaseUnavailable(new Error('the connection was lost before the commit'));
  if (connection.hasFailed) {
    throw new AppError('internal_error', 'A transaction with a failed statement cannot be committed.');
  }
  await session.script('commit', deadlineMs);
}

/** Ends the transaction after a failure and gives the session back; never rejects, since the failure is the news. */
async function abandon(
  session: Session,
  connection: TransactionConnection,
  error: unknown,
  deadlineMs: number,
): Promise<void> {
  const reason = error instanceof Error ? error : new Error('the transaction failed', { cause: error });
  await connection.end(reason);
  let isClean = false;
  try {
    if (session.isUsable()) {
      await session.script('rollback', deadlineMs);
      isClean = true;
    }
  } catch {
    isClean = false;
  }
  session.release(isClean);
}

/** Rejects when the signal aborts; `stop` takes the listener away again. */
function abortion(signal: AbortSignal): { readonly promise: Promise<never>; stop(): void } {
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const onAbort = (): void => aborted.reject(abortReason(signal));
  signal.addEventListener('abort', onAbort, { once: true });
  return { promise: aborted.promise, stop: () => signal.removeEventListener('abort', onAbort) };
}

/** The body's result, unless the transaction stands still for too long or the caller aborts before. */
async function runBody<T>(passage: Passage<T>, connection: TransactionConnection): Promise<T> {
  const work = passage.body(connection);
  work.catch(() => undefined);
  const signal = passage.options?.signal;
  if (signal === undefined) return Promise.race([work, connection.idled]);
  const aborted = abortion(signal);
  try {
    return await Promise.race([work, connection.idled, aborted.promise]);
  } finally {
    aborted.stop();
  }
}

const hasAborted = (signal: AbortSignal | undefined): boolean => signal?.aborted === true;

async function pass<T>(source: SessionSource, passage: Passage<T>): Promise<T> {
  if (openDoor.getStore()?.isOpen === true) {
    throw new AppError('internal_error', 'A database door was opened inside another.');
  }
  const deadlineMs = deadlineOf(passage.options);
  const signal = passage.options?.signal;
  if (signal !== undefined && hasAborted(signal)) throw abortReason(signal);
  const session = await openTransaction(source, passage, deadlineMs);
  const connection = new TransactionConnection(
    session,
    { deadlineMs, idleLimitMs: source.idleLimitMs },
    passage.check,
  );
  const state = { isOpen: true };
  try {
    const result = await openDoor.run(state, () => runBody(passage, connection));
    state.isOpen = false;
    await commit(session, connection, deadlineMs);
    session.release(true);
    return result;
  } catch (thrown) {
    const error = readableThrown(thrown);
    state.isOpen = false;
    const ending = abandon(session, connection, error, deadlineMs);
    if (!hasAborted(signal)) await ending;
    throw error;
  }
}

const noCheck = (): void => undefined;

function grantCheck(job: SystemJob): (text: string) => void {
  const grants: JobGrants = systemGrants[job];
  return (text) => {
    const missing = firstMissingGrant(statementFacts(text), grants);
    if (missing !== null) {
      throw new AppError('internal_error', `The system job ${job} is not granted ${missing}.`);
    }
  };
}

export interface Doors {
  withTenant<T>(
    context: TenantContext,
    fn: (tx: TenantHandle) => Promise<T>,
    options?: DoorOptions,
  ): Promise<T>;
  withOperator<T>(
    context: OperatorContext,
    reason: string,
    fn: (tx: OperatorHandle) => Promise<T>,
    options?: DoorOptions,
  ): Promise<T>;
  withSystem<T>(job: SystemJob, fn: (tx: SystemHandle) => Promise<T>, options?: DoorOptions): Promise<T>;
  doorCounts(): DoorCounts;
}

/** The doors over one source of sessions; see `Database` for what each guarantees. */
export function createDoors(source: SessionSource): Doors {
  const counts = { tenant: 0, operator: 0 };
  const systemCounts: Partial<Record<SystemJob, number>> = {};
  return {
    async withTenant(context, fn, options) {
      const tenantId = checkTenantId(context.tenantId);
      counts.tenant += 1;
      return pass(source, {
        door: 'tenant',
        identity: `, set_config('stoa.tenant', '${tenantId}', true)`,
        check: noCheck,
        body: async (connection) => {
          const tx = kyselyOn(connection);
          return fn(Object.assign(tx, { [doorBrand]: 'tenant' as const, audit: auditOfTenant(tx, context) }));
        },
        options,
      });
    },
    async withOperator(context, reason, fn, options) {
      if (context.tenantId !== undefined) checkTenantId(context.tenantId);
      counts.operator += 1;
      return pass(source, {
        door: 'operator',
        identity: '',
        check: noCheck,
        body: async (connection) => {
          const tx = kyselyOn(connection);
          const trail = auditOfOperator(tx, context, reason);
          const result = await fn(
            Object.assign(tx, { [doorBrand]: 'operator' as const, audit: trail.audit }),
          );
          await trail.end();
          return result;
        },
        options,
      });
    },
    async withSystem(job, fn, options) {
      systemCounts[job] = (systemCounts[job] ?? 0) + 1;
      return pass(source, {
        door: 'system',
        identity: '',
        check: grantCheck(job),
        body: async (connection) => {
          const tx = kyselyOn(connection);
          return fn(Object.assign(tx, { [doorBrand]: 'system' as const, audit: auditOfSystem(tx, job) }));
        },
        options,
      });
    },
    doorCounts: () => ({ ...counts, system: { ...systemCounts } }),
  };
}
