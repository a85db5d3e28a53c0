/**
 * Checkpoints of the embedded database. PostgreSQL leaves them to a process that PGlite, in single-user mode, does not
 * have: without these the write-ahead log grows for as long as the process lives (300 MB of rows left 305 MB of log), and
 * a start after `kill -9` replays all of it. One is made between two transactions, when the log has grown enough.
 */
import { z } from 'zod';
import type { WorkerClient } from './worker-client.ts';

/** How much log a start may have to replay is about 9,000 requests. */
const defaults = { lookEveryMs: 10_000, growthBytes: 32 * 1024 * 1024 };
const deadlineMs = 60_000;

const positions = z.array(z.object({ bytes: z.coerce.number() }));

export class Checkpoints {
  readonly #settings: typeof defaults;
  #lookedAtMs = performance.now();
  #checkedAtBytes: number | null = null;

  constructor(settings: typeof defaults = defaults) {
    this.#settings = settings;
  }

  /** Whether it is time to look; called where no transaction is open. */
  get isDue(): boolean {
    return performance.now() - this.#lookedAtMs >= this.#settings.lookEveryMs;
  }

  /** Looks at the log and makes a checkpoint where it has grown. True where one was made. */
  async run(client: WorkerClient): Promise<boolean> {
    this.#lookedAtMs = performance.now();
    const sql = `select (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::text as bytes`;
    const { rows } = await client.send({ kind: 'query', sql, parameters: [] }, deadlineMs);
    const bytes = positions.parse(rows)[0]?.bytes ?? 0;
    this.#checkedAtBytes ??= bytes;
    if (bytes - this.#checkedAtBytes < this.#settings.growthBytes) return false;
    await client.send({ kind: 'script', sql: 'checkpoint' }, deadlineMs);
    this.#checkedAtBytes = bytes;
    return true;
  }
}
