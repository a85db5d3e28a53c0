/**
 * The connection of one process to NATS, with its stream. It is sought for ever: NATS may be away at the start, go and
 * come back, or come back empty. While it is away nobody waits for it but those who ask `session`, and they by a signal.
 *
 *   seeking -> connected -> settled (the stream is as the settings say) -> lost -> seeking ...
 *
 * A session ends with its connection: what was made of it is thrown away, and its users begin again with the next one.
 * The client's own reconnect is off, so that nobody goes on with a half-known state behind a gap, and nothing that was
 * waiting to be sent goes out after it.
 */

import { type JetStreamClient, jetstream, type JetStreamManager, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection, type NodeConnectionOptions } from '@nats-io/transport-node';
import type { Database } from '#db';
import type { HealthPart, Lifecycle, Logger } from '#kernel';
import { createBackoff, pause } from './pause.ts';
import { readLogId } from './relay.sql.ts';
import { ensureStream, StreamFault, type StreamSettings } from './stream.ts';

export interface NatsSettings extends StreamSettings {
  /** `nats://` or `tls://`, with a login (`user:password@`) or a token (`token@`) where the server wants one. */
  readonly url: string;
}

export interface LinkDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

/** One connection, from the moment its stream was found good until it is lost. */
export interface NatsSession {
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly maxPayload: number;
  /** Aborts when the connection is lost or the link stops. */
  readonly ended: AbortSignal;
  /** Something went wrong that the stream may be the cause of: it is looked at, and made again where it is gone. */
  doubt(): Promise<void>;
}

export interface NatsLink extends Lifecycle {
  readonly settings: NatsSettings;
  readonly health: HealthPart;
  /** What is wrong, for an operator, without credentials; null where nothing is. */
  problem(): string | null;
  /** The present session, or the next one; null when the signal aborts or the link stops. */
  session(signal: AbortSignal): Promise<NatsSession | null>;
}

const connectMs = 3000;
/** How long NATS may take over one request before the session's user counts it as failed. */
const requestMs = 5000;
/** A connection whose other end is silent is given up after three of these. */
const pingMs = 4000;
const closeMs = 1000;
const firstPauseMs = 100;
const longestPauseMs = 5000;
/** How often a stream that can't be used is looked at again. */
const streamPauseMs = 2000;

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The client's options for a URL; it takes no credentials inside of one. */
function connectionOptions(url: string): NodeConnectionOptions {
  const { protocol, hostname, port, username, password } = new URL(url);
  const login =
    username === '' && password === ''
      ? {}
      : password === ''
        ? { token: decoded(username) }
        : { user: decoded(username), pass: decoded(password) };
  return {
    servers: `${hostname}:${port === '' ? '4222' : port}`,
    ...login,
    ...(protocol === 'tls:' ? { tls: {} } : {}),
    name: 'stoa',
    timeout: connectMs,
    reconnect: false,
    pingInterval: pingMs,
    maxPingOut: 2,
    ignoreClusterUpdates: true,
  };
}

/** Where the server is, for logs: never with a login. */
function placeOf(url: string): string {
  return new URL(url).host;
}

function problemOf(error: unknown): string {
  return error instanceof StreamFault
    ? error.message
    : 'NATS answers, but JetStream or the database does not.';
}

class Link implements NatsLink {
  readonly settings: NatsSettings;
  readonly health: HealthPart = { name: 'nats', isHealthy: () => this.#session !== null };
  readonly #deps: LinkDependencies;
  readonly #stopping = new AbortController();
  readonly #waiting = new Set<() => void>();
  #session: NatsSession | null = null;
  #problem: string | null = 'NATS has not answered yet.';
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: LinkDependencies, settings: NatsSettings) {
    this.#deps = deps;
    this.settings = settings;
  }

  problem(): string | null {
    return this.#problem;
  }

  async start(): Promise<void> {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the connection to NATS is closing'));
    await this.#loop;
  }

  async session(signal: AbortSignal): Promise<NatsSession | null> {
    const either = AbortSignal.any([signal, this.#stopping.signal]);
    while (this.#session === null && !either.aborted) {
      await new Promise<void>((resolve) => {
        const finish = (): void => {
          this.#waiting.delete(finish);
          either.removeEventListener('abort', finish);
          resolve();
        };
        this.#waiting.add(finish);
        either.addEventListener('abort', finish, { once: true });
      });
    }
    return either.aborted ? null : this.#session;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = createBackoff(firstPauseMs, longestPauseMs, this.#deps.random ?? Math.random);
    while (!signal.aborted) {
      const connection = await this.#connect();
      if (connection !== null) {
        await this.#hold(connection, () => backoff.reset());
        await closeWithin(connection);
      }
      if (!signal.aborted) await pause(backoff.next(), signal);
    }
  }

  async #connect(): Promise<NatsConnection | null> {
    try {
      return await connect(connectionOptions(this.settings.url));
    } catch (error) {
      this.#fail(`NATS at ${placeOf(this.settings.url)} can't be reached.`, error);
      return null;
    }
  }

  /** Returns when the connection is lost or the link stops. */
  async #hold(connection: NatsConnection, settled: () => void): Promise<void> {
    const lost = new AbortController();
    connection.closed().then(
      (error) => lost.abort(error instanceof Error ? error : new Error('the connection to NATS was closed')),
      (error: unknown) => lost.abort(error),
    );
    const ended = AbortSignal.any([lost.signal, this.#stopping.signal]);
    const options = { timeout: requestMs };
    try {
      const jsm = await jetstreamManager(connection, { ...options, checkAPI: false });
      if (!(await this.#settle(jsm, ended))) return;
      const { js, maxPayload } = {
        js: jetstream(connection, options),
        maxPayload: connection.info?.max_payload ?? 1_048_576,
      };
      settled();
      this.#open({ js, jsm, maxPayload, ended, doubt: this.#checker(jsm, lost) });
      await pauseUntil(ended);
      if (this.#session !== null) this.#fail('The connection to NATS was lost.', lost.signal.reason);
    } catch (error) {
      this.#fail('The connection to NATS failed.', error);
    } finally {
      this.#session = null;
      // Not waited for: where a doubt ended the session, the connection is still open, and closes only behind this.
      lost.abort(new Error('the connection to NATS is closing'));
    }
  }

  /** True once the stream is as it must be; false where the connection ended before. */
  async #settle(jsm: JetStreamManager, ended: AbortSignal): Promise<boolean> {
    while (!ended.aborted) {
      try {
        await this.#ensure(jsm);
        return true;
      } catch (error) {
        this.#fail(problemOf(error), error);
        await pause(streamPauseMs, ended);
      }
    }
    return false;
  }

  /** One look at a time for all who doubt; a stream that can't be put right ends the session. */
  #checker(jsm: JetStreamManager, lost: AbortController): () => Promise<void> {
    let looking: Promise<void> | null = null;
    const look = async (): Promise<void> => {
      try {
        await this.#ensure(jsm);
      } catch (error) {
        this.#fail(problemOf(error), error);
        lost.abort(error);
      } finally {
        looking = null;
      }
    };
    return () => (looking ??= look());
  }

  async #ensure(jsm: JetStreamManager): Promise<void> {
    const logId = await this.#deps.db.withSystem('relay', readLogId);
    await ensureStream(jsm, this.settings, logId);
  }

  #open(session: NatsSession): void {
    this.#session = session;
    this.#problem = null;
    this.#deps.logger.info({ server: placeOf(this.settings.url) }, 'events go through NATS');
    for (const wake of this.#waiting) wake();
  }

  /** Logged once for each kind of trouble, not for each try. */
  #fail(problem: string, error: unknown): void {
    this.#session = null;
    if (this.#problem === problem || this.#stopping.signal.aborted) return;
    this.#problem = problem;
    this.#deps.logger.error({ err: error, problem }, 'NATS is away; events wait in the log');
  }
}

function pauseUntil(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Closing says good-bye to the server, which may have stopped listening. */
async function closeWithin(connection: NatsConnection): Promise<void> {
  const limit = new AbortController();
  const closed = connection.close().catch(() => undefined);
  await Promise.race([closed, pause(closeMs, limit.signal)]);
  limit.abort();
}

/** A link that seeks its server from `start` on; `start` never waits for it. `stop` takes a second at the most. */
export function createNatsLink(deps: LinkDependencies, settings: NatsSettings): NatsLink {
  return new Link(deps, settings);
}
