import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto';
import { maximumTokenSeconds } from '@stoa/contracts';
import type { Database } from '#db';
import { AppError, type Clock, type Logger, type Sealer } from '#kernel';
import type { VerificationKey } from './jws.ts';
import { ownAlgorithm } from './own-token.ts';
import {
  deleteSigningKeysBefore,
  insertSigningKey,
  selectSigningKeys,
  type SigningKeyRow,
} from './signing-keys.sql.ts';

/**
 * The keys that access tokens are signed with. Time alone says what a key is, so that no process has to be told:
 *
 * | now is | the key is | in the key set |
 * | --- | --- | --- |
 * | before `signing_from` | next | yes |
 * | before `signing_until` | current: signs | yes |
 * | before `published_until`, one period later | previous: its last tokens have long expired | yes |
 *
 * A task of one process makes the next key as soon as the one before it begins to sign, so a key is published for a whole
 * period before its first token. Only the very first key, and one after all have run out, signs at once. Where the task
 * has not run yet, whoever needs a key makes it; a generation can be made only once, whoever is first.
 *
 * A key verifies only tokens of the time in which it signs, so one that leaks later is worth nothing. Private keys lie in
 * the database, sealed under the master key and bound to their row.
 */
export interface SigningKeysDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly sealer: Sealer;
  readonly logger: Logger;
}

export interface SigningKeysSettings {
  /** How long each key signs, in milliseconds, one hour and up; default a day. */
  readonly periodMs?: number;
}

export interface CurrentKey {
  readonly keyId: string;
  readonly key: KeyObject;
}

interface KnownKey {
  readonly row: SigningKeyRow;
  readonly verification: VerificationKey;
  opened: KeyObject | null;
}

const dayMs = 24 * 60 * 60 * 1000;
/** Least time between two readings that unknown key ids cause. */
const rereadAfterMs = 1000;
/** For the clocks of processes. */
const slackMs = 60_000;

export class SigningKeys {
  readonly #deps: SigningKeysDeps;
  readonly #periodMs: number;
  #known: readonly KnownKey[] = [];
  #isSealOurs = true;
  #missedAtMs = -Infinity;
  #loading: Promise<void> | null = null;

  constructor(deps: SigningKeysDeps, settings: SigningKeysSettings = {}) {
    this.#deps = deps;
    this.#periodMs = settings.periodMs ?? dayMs;
  }

  /**
   * False where the latest key was sealed under another master key than this process's, and so, likely, was everything else
   * that is secret in this database. By the last reading; true where there is no key yet.
   */
  get isSealOurs(): boolean {
    return this.#isSealOurs;
  }

  /** The key of that id where it may have signed a token that is valid now; reads the table for an unknown one. */
  async find(keyId: string): Promise<VerificationKey | null> {
    const { clock } = this.#deps;
    if (this.#keyOf(keyId) === undefined) {
      const isDue = clock.monotonic() - this.#missedAtMs >= rereadAfterMs;
      if (isDue) this.#missedAtMs = clock.monotonic();
      if (isDue || this.#loading !== null) await this.load();
    }
    const found = this.#keyOf(keyId);
    if (found === undefined) return null;
    const nowMs = clock.now();
    const fromMs = found.row.signing_from.getTime() - slackMs;
    const untilMs = found.row.signing_until.getTime() + maximumTokenSeconds * 1000 + slackMs;
    return fromMs <= nowMs && nowMs < untilMs ? found.verification : null;
  }

  /** What signs now. Throws `database_unavailable` where there is none in memory and none can be made. */
  async current(): Promise<CurrentKey> {
    const current = await this.#requireCurrent();
    return { keyId: current.row.key_id, key: this.#open(current) };
  }

  /** Public keys, previous, current and next, in the order of their making. Rejects like `current`. */
  async published(): Promise<readonly { readonly keyId: string; readonly publicKey: string }[]> {
    await this.#requireCurrent();
    const nowMs = this.#deps.clock.now();
    return this.#known
      .filter(({ row }) => row.published_until.getTime() > nowMs)
      .map(({ row }) => ({ keyId: row.key_id, publicKey: row.public_key }));
  }

  /** Makes what is missing and deletes what is over. May run in several processes; the task has its own fenced door. */
  async rotate(through: Pick<Database, 'withSystem'> = this.#deps.db): Promise<void> {
    const { clock, sealer } = this.#deps;
    await through.withSystem('signing-keys', async (tx) => {
      const rows = await selectSigningKeys(tx);
      const nowMs = clock.now();
      for (const row of missingKeys(rows, nowMs, this.#periodMs, sealer)) await insertSigningKey(tx, row);
      await deleteSigningKeysBefore(tx, new Date(nowMs - this.#periodMs));
    });
    await this.#read();
  }

  /** Reads the table anew; concurrent calls share one reading. */
  async load(): Promise<void> {
    this.#loading ??= this.#read().finally(() => {
      this.#loading = null;
    });
    await this.#loading;
  }

  async #read(): Promise<void> {
    const rows = await this.#deps.db.withSystem('key-lookup', selectSigningKeys);
    this.#known = rows.map((row) => this.#keyOf(row.key_id) ?? knownKey(row));
    this.#judgeSeal(this.#known.at(-1));
  }

  #open(known: KnownKey): KeyObject {
    const { key_id: keyId, private_key: sealed } = known.row;
    known.opened ??= createPrivateKey(this.#deps.sealer.open(sealed, placeOf(keyId)));
    return known.opened;
  }

  #judgeSeal(latest: KnownKey | undefined): void {
    const wasOurs = this.#isSealOurs;
    try {
      if (latest !== undefined) this.#open(latest);
      this.#isSealOurs = true;
    } catch (error) {
      this.#isSealOurs = false;
      if (wasOurs)
        this.#deps.logger.error(
          { err: error },
          'the secrets in this database were sealed under another STOA_MASTER_KEY than that of this process: set the same in each',
        );
    }
  }

  #keyOf(keyId: string): KnownKey | undefined {
    return this.#known.find(({ row }) => row.key_id === keyId);
  }

  #current(): KnownKey | undefined {
    const nowMs = this.#deps.clock.now();
    return this.#known.find(
      ({ row }) => row.signing_from.getTime() <= nowMs && nowMs < row.signing_until.getTime(),
    );
  }

  async #requireCurrent(): Promise<KnownKey> {
    if (this.#current() === undefined) await this.load();
    if (this.#current() === undefined) await this.rotate();
    const current = this.#current();
    if (current === undefined) throw new AppError('internal_error', 'There is no key to sign tokens with.');
    return current;
  }
}

/** What has to be made so that one key signs now and another waits for its time. */
export function missingKeys(
  rows: readonly SigningKeyRow[],
  nowMs: number,
  periodMs: number,
  sealer: Sealer,
): readonly SigningKeyRow[] {
  const made: SigningKeyRow[] = [];
  let latest = rows.at(-1);
  while (latest === undefined || latest.signing_from.getTime() <= nowMs) {
    const followsMs: number = latest === undefined ? nowMs : Math.max(latest.signing_until.getTime(), nowMs);
    latest = newRow((latest?.generation ?? 0n) + 1n, followsMs, periodMs, sealer);
    made.push(latest);
  }
  return made;
}

function newRow(generation: bigint, fromMs: number, periodMs: number, sealer: Sealer): SigningKeyRow {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const { x } = publicKey.export({ format: 'jwk' });
  if (x === undefined) throw new Error('an Ed25519 key has no x');
  const keyId = createHash('sha256').update(x).digest('base64url').slice(0, 22);
  const plain = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  return {
    generation,
    key_id: keyId,
    public_key: x,
    private_key: sealer.seal(plain, placeOf(keyId)),
    signing_from: new Date(fromMs),
    signing_until: new Date(fromMs + periodMs),
    published_until: new Date(fromMs + 2 * periodMs),
  };
}

function placeOf(keyId: string): string {
  return `platform:signing_keys:private_key:${keyId}`;
}

function knownKey(row: SigningKeyRow): KnownKey {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: row.public_key };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  return { row, verification: { algorithms: [ownAlgorithm], key }, opened: null };
}
