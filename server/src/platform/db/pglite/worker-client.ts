import { Worker } from 'node:worker_threads';
import { AppError } from '#kernel';
import { databaseUnavailable, deadlineExceeded, translateSqlError } from '../sql-error.ts';
import type { WorkerAnswer, WorkerReply, WorkerRequest, WorkerSettings } from './protocol.ts';

/** Opening takes about 3 s at first and 0.3 s later on the reference machine; a slow disk gets a minute. */
const openDeadlineMs = 60_000;

type Unnumbered<Request> = Request extends unknown ? Omit<Request, 'id'> : never;

interface Pending {
  readonly resolve: (answer: WorkerAnswer) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * One life of the worker thread: from its start to its end, wanted or not. Requests go one at a time; the caller
 * sees to that. Once it has ended, every request rejects with `database_unavailable`.
 */
export class WorkerClient {
  readonly #worker: Worker;
  readonly #ready: Promise<void>;
  #pending = new Map<number, Pending>();
  #lastId = 0;
  #hasEnded = false;

  constructor(settings: WorkerSettings) {
    this.#worker = new Worker(new URL('./worker.ts', import.meta.url), { name: 'pglite' });
    this.#worker.on('message', (reply: WorkerReply) => this.#receive(reply));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => this.#fail(new Error('the database thread has ended')));
    this.#ready = this.#open(settings);
    this.#ready.catch(() => undefined);
  }

  /** Resolves when the database is open. Rejects with `database_unavailable` where it can't be. */
  async opened(): Promise<void> {
    await this.#ready;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Rejects with `deadline_exceeded` past the deadline, and ends the thread then: nothing else stops a statement. */
  async send(request: Unnumbered<WorkerRequest>, deadlineMs: number): Promise<WorkerAnswer> {
    if (this.#hasEnded) throw databaseUnavailable(new Error('the database thread has ended'));
    const id = ++this.#lastId;
    const reply = Promise.withResolvers<WorkerAnswer>();
    this.#pending.set(id, reply);
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      reply.reject(deadlineExceeded('a statement'));
      this.#fail(new Error('the database thread was ended at a deadline'));
      this.#end();
    }, deadlineMs);
    this.#worker.postMessage({ ...request, id }, []);
    try {
      return await reply.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the thread at once, as `kill -9` would; resolves when it is gone. May be called twice. */
  async terminate(): Promise<void> {
    this.#fail(new Error('the database thread was ended'));
    await this.#worker.terminate();
  }

  /** Like `terminate`, for callers that have nothing to wait for. */
  #end(): void {
    this.terminate().catch(() => undefined);
  }

  async #open(settings: WorkerSettings): Promise<void> {
    try {
      await this.send({ kind: 'open', settings }, openDeadlineMs);
    } catch (error) {
      this.#end();
      throw notOpened(settings.directory, error);
    }
  }

  #receive(reply: WorkerReply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (reply.kind === 'answer') {
      pending?.resolve(reply.answer);
    } else if (reply.fields.code === undefined) {
      // Not PostgreSQL speaking: the engine itself failed, and nothing is known of its state.
      const failure = new Error(reply.message);
      pending?.reject(databaseUnavailable(failure));
      this.#fail(failure);
      this.#end();
    } else {
      pending?.reject(translateSqlError(reply.message, reply.fields));
    }
  }

  #fail(error: unknown): void {
    this.#hasEnded = true;
    for (const pending of this.#pending.values()) pending.reject(databaseUnavailable(error));
    this.#pending.clear();
  }
}

/** Said to whoever starts the process, so it names the folder and the reason. */
function notOpened(directory: string | null, error: unknown): AppError {
  const [message = ''] = deepestCause(error).message.split('\n', 1);
  const place = directory === null ? 'in memory' : `in ${directory}`;
  const why =
    error instanceof AppError && error.code === 'deadline_exceeded'
      ? `it took more than ${openDeadlineMs / 1000} s; start again, a busy machine may need a second try`
      : `${message.slice(0, 300)}; where starting again does not help, the folder is damaged: restore a backup of it or move it away`;
  return new AppError('database_unavailable', `The embedded database ${place} did not open: ${why}.`, {
    retryAfterMs: 1000,
    cause: error,
  });
}

function deepestCause(error: unknown): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  return error.cause === undefined ? error : deepestCause(error.cause);
}
