import { AppError, type Clock, type Logger } from '#kernel';
import { isScriptMissing, isServerAnswer, unableWord } from './answers.ts';
import type { RedisAddress } from './address.ts';
import { redisClient, type RedisClient } from './client.ts';
import type { RedisScript } from './script.ts';

/**
 * The one connection of a process to Redis.
 *
 * A call never waits for longer than its deadline and never for a connection: where the line is down it is refused at
 * once. Three ways in which a server goes, and what tells:
 * - The connection closes: every call on it is refused then, and new ones at once.
 * - The server stops answering (a dead host, a stopped process, a cut cable): the first calls meet their deadline. From
 *   then on the line is suspected: a ping is sent, calls are refused at once until something answers, and after
 *   `giveUpMs` the connection is dropped. A ping each `heartbeatMs` finds this where nobody calls.
 * - The process itself stood still (a long computation): answers lie in the socket when the deadline's timer fires, or the
 *   command was not even written. So a timer that fires late gives the call its deadline once more, and one that fires in
 *   time waits for the turn of the event loop in which the socket is read.
 *
 * A server that answers and cannot serve (no longer the primary after a failover, memory or disk full, still loading) is
 * away as well, for whoever asks: `cache_unavailable`. After a failover the connection is dropped, since the address may
 * lead to the new primary by now.
 *
 * Whoever is refused because of the deadline does not know whether the command was carried out.
 *
 * Reconnecting: after 50 ms, then twice as long each time up to 5 s, each wait shortened by up to a half at random, so
 * that the processes of a cluster don't come all at once. A line that held for a second begins anew at 50 ms.
 */
export interface RedisConnectionSettings {
  readonly address: RedisAddress;
  /** Milliseconds for each call; default 100. */
  readonly deadlineMs?: number;
  /** Milliseconds for connecting, and as long again for logging in; default 1,000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds between pings; default 1,000. */
  readonly heartbeatMs?: number;
  /** Milliseconds without an answer after which a suspected connection is dropped; default 1,000. */
  readonly giveUpMs?: number;
}

export interface RedisConnectionDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly onCall: (outcome: CallOutcome) => void;
}

export type CallOutcome = 'answered' | 'refused' | 'late' | 'away';

export interface RedisConnection {
  /** Whether the line is up and not suspected. */
  readonly isUp: boolean;
  /** The answer to one command. Rejects with `cache_unavailable`, or with the server's own refusal of what is wrong with it. */
  send(args: readonly string[]): Promise<unknown>;
  /** Runs a script, which the server is taught where it doesn't know it (any more). Rejects like `send`. */
  run(script: RedisScript, keys: readonly string[], args: readonly string[]): Promise<unknown>;
  /** Before `start`: hears a channel from each connecting on; `onReady` is called when it is heard again. */
  listen(channel: string, onText: (text: string) => void, onReady: () => void): void;
  /** Resolves after the first attempt, whatever came of it; the next ones go on by themselves. Never rejects. */
  start(): Promise<void>;
  /** Waits for what was sent, for the deadline at most, and closes. */
  stop(): Promise<void>;
}

const shortestWaitMs = 50;
const longestWaitMs = 5_000;
const steadyAfterMs = 1_000;
/** A timer that fires so much too late says that the process, not the server, kept the call waiting. */
const stoodStillMs = 20;
/** What a server that cannot serve says goes to the log at most so often. */
const unableEveryMs = 60_000;
/** It is a replica now: the primary is elsewhere. */
const demoted: ReadonlySet<string> = new Set(['READONLY', 'MASTERDOWN']);

/** A connection that is up. Once dropped it never comes back; another takes its place. */
interface Line {
  readonly client: RedisClient;
  readonly upSinceMs: number;
  isSuspected: boolean;
  /** Calls without an answer, those included whose caller was refused. */
  pending: number;
}

export function redisConnection(
  deps: RedisConnectionDeps,
  settings: RedisConnectionSettings,
): RedisConnection {
  return new Connection(deps, settings);
}

class Connection implements RedisConnection {
  readonly #deps: RedisConnectionDeps;
  readonly #settings: Required<RedisConnectionSettings>;
  readonly #channels: { name: string; onText: (text: string) => void; onReady: () => void }[] = [];
  #line: Line | null = null;
  #isStopped = true;
  #failures = 0;
  #isSaid = false;
  #unableSaidMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #attempt: Promise<void> = Promise.resolve();

  constructor(deps: RedisConnectionDeps, settings: RedisConnectionSettings) {
    this.#deps = deps;
    this.#settings = {
      deadlineMs: 100,
      connectTimeoutMs: 1_000,
      heartbeatMs: 1_000,
      giveUpMs: 1_000,
      ...settings,
    };
  }

  get isUp(): boolean {
    return this.#line !== null && !this.#line.isSuspected;
  }

  send(args: readonly string[]): Promise<unknown> {
    return this.#call((client) => client.sendCommand(args));
  }

  async run(script: RedisScript, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const rest = [String(keys.length), ...keys, ...args];
    try {
      return await this.send(['EVALSHA', script.sha1, ...rest]);
    } catch (error) {
      if (!isScriptMissing(error)) throw error;
      // EVAL teaches the server the script for the next time, and is one step with running it.
      return this.send(['EVAL', script.text, ...rest]);
    }
  }

  listen(name: string, onText: (text: string) => void, onReady: () => void): void {
    this.#channels.push({ name, onText, onReady });
  }

  async start(): Promise<void> {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#attempt = this.#connect();
    await this.#attempt;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#attempt;
    const line = this.#line;
    if (!line) return;
    clearTimeout(this.#timer);
    // Answers come in order: the one to a ping stands behind all that was sent.
    await this.send(['PING']).catch(() => undefined);
    this.#line = null;
    line.client.destroy();
  }

  #call(command: (client: RedisClient) => Promise<unknown>): Promise<unknown> {
    const line = this.#line;
    if (!line || line.isSuspected) {
      this.#deps.onCall('away');
      return Promise.reject(away());
    }
    return new Promise((resolve, reject) => {
      const { deadlineMs } = this.#settings;
      const { clock, onCall } = this.#deps;
      let dueMs = clock.monotonic() + deadlineMs;
      const expire = (): void => {
        if (isSettled) return;
        isSettled = true;
        onCall('late');
        reject(away());
        this.#suspect(line);
      };
      const meetDeadline = (): void => {
        const nowMs = clock.monotonic();
        if (nowMs - dueMs < stoodStillMs) {
          // Once the socket was read.
          setImmediate(expire);
          return;
        }
        dueMs = nowMs + deadlineMs;
        timer = setTimeout(meetDeadline, deadlineMs);
      };
      let timer = setTimeout(meetDeadline, deadlineMs);
      let isSettled = false;
      const settle = (outcome: CallOutcome, pass: () => void): void => {
        line.pending -= 1;
        clearTimeout(timer);
        if (isSettled) return;
        isSettled = true;
        onCall(outcome);
        pass();
      };
      line.pending += 1;
      command(line.client).then(
        (answer) => settle('answered', () => resolve(answer)),
        (error: unknown) => {
          if (isServerAnswer(error)) settle('refused', () => reject(this.#refusal(line, error)));
          else settle('away', () => reject(away(error)));
        },
      );
    });
  }

  /** What the caller hears of the server's refusal. */
  #refusal(line: Line, error: Error): Error {
    const word = unableWord(error);
    if (word === null) return error;
    const nowMs = this.#deps.clock.monotonic();
    if (nowMs - this.#unableSaidMs >= unableEveryMs) {
      this.#unableSaidMs = nowMs;
      this.#deps.logger.warn({ reason: word }, 'Redis answers and cannot serve; it counts as away');
    }
    if (demoted.has(word)) this.#drop(line, error);
    return away(error);
  }

  /** Sends a ping past the suspicion; whatever time it takes to answer ends it, no answer ends the line. */
  #suspect(line: Line): void {
    if (line.isSuspected || this.#line !== line) return;
    line.isSuspected = true;
    this.#say('Redis does not answer');
    const giveUp = setTimeout(() => this.#drop(line), this.#settings.giveUpMs);
    line.client.sendCommand(['PING']).then(
      () => {
        clearTimeout(giveUp);
        line.isSuspected = false;
        this.#sayBack();
      },
      () => clearTimeout(giveUp),
    );
  }

  #beat(line: Line): void {
    this.#timer = setTimeout(() => {
      if (this.#line !== line || this.#isStopped) return;
      this.#beat(line);
      if (!line.isSuspected) this.send(['PING']).catch(() => undefined);
    }, this.#settings.heartbeatMs);
    this.#timer.unref();
  }

  async #connect(): Promise<void> {
    const client = redisClient(this.#settings.address, this.#settings);
    const line: Line = { client, upSinceMs: this.#deps.clock.monotonic(), isSuspected: false, pending: 0 };
    let cause: unknown;
    // The library throws what nobody listens to. Errors before the line is up come by the promise too.
    client.on('error', (error: unknown) => {
      cause = error;
      this.#drop(line, error);
    });
    let isLate = false;
    // Beyond the library's own deadline, which ends where the server took the connection and says nothing on it.
    const deadline = setTimeout(() => {
      isLate = true;
      client.destroy();
    }, this.#settings.connectTimeoutMs * 2);
    try {
      await client.connect();
      await Promise.all(
        this.#channels.map(({ name, onText }) => client.subscribe(name, (text) => onText(text))),
      );
      if (isLate || !client.isReady) throw new Error('the connection closed while it was made');
    } catch (error) {
      client.destroy();
      if (!this.#isStopped) this.#fail(cause ?? error);
      return;
    } finally {
      clearTimeout(deadline);
    }
    if (this.#isStopped) {
      client.destroy();
      return;
    }
    this.#line = line;
    this.#sayBack();
    this.#beat(line);
    for (const { onReady } of this.#channels) onReady();
  }

  #drop(line: Line, cause?: unknown): void {
    if (this.#line !== line) return;
    this.#line = null;
    clearTimeout(this.#timer);
    const wasSteady = this.#deps.clock.monotonic() - line.upSinceMs >= steadyAfterMs;
    if (wasSteady) this.#failures = 0;
    line.client.destroy();
    if (!this.#isStopped) this.#fail(cause);
  }

  #fail(cause: unknown): void {
    this.#say('Redis cannot be reached', cause);
    const fullMs = Math.min(longestWaitMs, shortestWaitMs * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    this.#timer = setTimeout(
      () => {
        this.#attempt = this.#connect();
      },
      fullMs * (1 - this.#deps.random() / 2),
    );
    this.#timer.unref();
  }

  /** Once for each outage. */
  #say(message: string, cause?: unknown): void {
    if (this.#isSaid) return;
    this.#isSaid = true;
    const { host, port } = this.#settings.address;
    const what = `${message}; caches are passed by, limits and leases do as their users decide, changes are polled`;
    this.#deps.logger.warn({ err: cause, server: `${host}:${port}` }, what);
  }

  #sayBack(): void {
    if (!this.#isSaid) return;
    this.#isSaid = false;
    this.#deps.logger.info({}, 'Redis answers again');
  }
}

function away(cause?: unknown): AppError {
  return new AppError('cache_unavailable', 'The store that the processes share cannot be reached.', {
    retryAfterMs: 1_000,
    cause,
  });
}
