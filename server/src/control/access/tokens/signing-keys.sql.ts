import { sql } from 'kysely';
import type { SystemHandle } from '#db';

export interface SigningKeyRow {
  readonly generation: bigint;
  readonly key_id: string;
  readonly public_key: string;
  /** Sealed. */
  readonly private_key: string;
  readonly signing_from: Date;
  readonly signing_until: Date;
  readonly published_until: Date;
}

/** All of them, oldest first: three or four. */
export async function selectSigningKeys(tx: SystemHandle): Promise<readonly SigningKeyRow[]> {
  const { rows } = await sql<SigningKeyRow>`
    select generation, key_id, public_key, private_key, signing_from, signing_until, published_until
    from platform.signing_keys order by generation
  `.execute(tx);
  return rows;
}

/** Nothing where another process has made this generation meanwhile; waits for one that is about to. */
export async function insertSigningKey(tx: SystemHandle, row: SigningKeyRow): Promise<void> {
  await sql`
    insert into platform.signing_keys
      (generation, key_id, public_key, private_key, signing_from, signing_until, published_until)
    values
      (${row.generation}, ${row.key_id}, ${row.public_key}, ${row.private_key}, ${row.signing_from},
       ${row.signing_until}, ${row.published_until})
    on conflict do nothing
  `.execute(tx);
}

export async function deleteSigningKeysBefore(tx: SystemHandle, time: Date): Promise<void> {
  await sql`delete from platform.signing_keys where published_until < ${time}`.execute(tx);
}
