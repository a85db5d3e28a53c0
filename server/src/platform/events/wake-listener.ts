import { Client } from 'pg';
import type { Logger } from '#kernel';

/** The channel of NOTIFY; channels belong to one database. */
export const wakeChannel = 'stoa_events';

const connectDeadlineMs = 5000;
const firstPauseMs = 250;
const longestPauseMs = 5000;

/** One connection that only listens, made anew whenever it breaks. */
export interface WakeListener {
  readonly isListening: boolean;
  /** Returns at once; a server that is away is tried again and again. */
  start(): void;
  stop(): Promise<void>;
}

/** `hear` gets the payload of each notice, and null once after each new connection: something may have been missed. */
export function createWakeListener(
  url: string,
  logger: Logger,
  hear: (sender: string | null) => void,
): WakeListener {
  return new Ear(url, logger, hear);
}

class Ear implements WakeListener {
  readonly #url: string;
  readonly #logger: Logger;
  readonly #hear: (sender: string | null) => void;
  #client: Client | null = null;
  #connecting: Promise<void> = Promise.resolve();
  #again: NodeJS.Timeout | undefined;
  #pauseMs = firstPauseMs;
  #isStopped = false;
  isListening = false;

  constructor(url: string, logger: Logger, hear: (sender: string | null) => void) {
    this.#url = url;
    this.#logger = logger;
    this.#hear = hear;
  }

  start(): void {
    this.#connecting = this.#connect();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#again);
    await this.#connecting;
    await this.#client?.end().catch(() => undefined);
  }

  async #connect(): Promise<void> {
    const client = new Client({
      connectionString: this.#url,
      application_name: 'stoa wake-ups',
      connectionTimeoutMillis: connectDeadlineMs,
      query_timeout: connectDeadlineMs,
      keepAlive: true,
    });
    this.#client = client;
    const lose = (error?: unknown): void => this.#lose(client, error);
    client.on('error', lose);
    client.on('end', () => lose());
    client.on('notification', ({ payload }) => this.#hear(payload ?? null));
    try {
      await client.connect();
      await client.query(`listen ${wakeChannel}`);
      if (this.#client !== client) return;
      this.isListening = true;
      this.#pauseMs = firstPauseMs;
      this.#hear(null);
    } catch (error) {
      lose(error);
    }
  }

  /** Once for each connection, however many of its faults are told. */
  #lose(client: Client, error: unknown): void {
    if (this.#client !== client) return;
    this.#client = null;
    this.isListening = false;
    client.end().catch(() => undefined);
    if (this.#isStopped) return;
    this.#logger.debug({ err: error }, 'wake-ups are not heard for the moment; the log is polled');
    this.#again = setTimeout(() => {
      this.#connecting = this.#connect();
    }, this.#pauseMs);
    this.#again.unref();
    this.#pauseMs = Math.min(longestPauseMs, this.#pauseMs * 2);
  }
}
