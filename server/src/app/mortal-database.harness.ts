import { sql } from 'kysely';
import type { Database, OperatorHandle, TenantHandle } from '#db';
import { AppError } from '#kernel';

export interface MortalDatabase {
  readonly db: Database;
  isDead(): boolean;
}

/**
 * A process's database that is lost at the commit of the transaction which keeps the answer under this Idempotency-Key:
 * nothing more is heard of it, nor said to it, as where the process was killed.
 */
export function mortalDatabase(
  db: Database,
  idempotencyKey: string,
  moment: 'before' | 'after',
): MortalDatabase {
  let isDead = false;
  const die = (): never => {
    isDead = true;
    throw new AppError('database_unavailable', 'This process is no more.');
  };
  const passing = async <Handle extends TenantHandle | OperatorHandle, T>(
    table: string,
    open: (body: (tx: Handle) => Promise<T>) => Promise<T>,
    body: (tx: Handle) => Promise<T>,
  ): Promise<T> => {
    if (isDead) die();
    let isChange = false;
    const result = await open(async (tx) => {
      const made = await body(tx);
      const { rows } = await sql`
        select 1 from ${sql.raw(table)} where idempotency_key = ${idempotencyKey} and answer is not null
      `.execute(tx);
      isChange = rows.length > 0;
      return isChange && moment === 'before' ? die() : made;
    });
    return isChange ? die() : result;
  };
  return {
    isDead: () => isDead,
    db: {
      ...db,
      withTenant: (context, fn, options) =>
        passing('tenant.idempotency_keys', (body) => db.withTenant(context, body, options), fn),
      withOperator: (context, reason, fn, options) =>
        passing('platform.idempotency_keys', (body) => db.withOperator(context, reason, body, options), fn),
      withSystem: async (job, fn, options) => (isDead ? die() : db.withSystem(job, fn, options)),
    },
  };
}
