import type { Database } from '#db';
import type { TimerTask } from '#jobs';
import type { Logger } from '#kernel';
import { dropMonths, makeMonths } from './audit.sql.ts';

export interface AuditMonths {
  /** Once an hour: `prepare`, then what is past its retention goes. For one process at a time. */
  readonly task: TimerTask;
  /** Makes the months from the present one to the third after it. May run anywhere at once. */
  prepare(): Promise<void>;
}

/** A month is two tables with ten indexes each. */
const deadlineMs = 60_000;

/** @param months how long an entry is kept, 3 and up; a month goes when all of it is older */
export function createAuditMonths(
  { db, logger }: { readonly db: Pick<Database, 'withSystem'>; readonly logger: Logger },
  months: number,
): AuditMonths {
  const prepare = async (through = db): Promise<void> => {
    const made = await through.withSystem('partitions', makeMonths, { deadlineMs });
    if (made > 0) logger.info({ made }, 'months of the audit made');
  };
  return {
    prepare: () => prepare(),
    task: {
      name: 'audit-months',
      everyMs: 3_600_000,
      async run(leader) {
        await prepare(leader);
        const dropped = await leader.withSystem('partitions', (tx) => dropMonths(tx, months), {
          deadlineMs,
        });
        if (dropped > 0)
          logger.info({ dropped, months }, 'months of the audit dropped: past their retention');
      },
    },
  };
}
