/**
 * A process that keeps a journal busy until somebody kills it: for the tests of recovery.
 * Arguments: folder, tenant. Says `settled <id>` once a request is settled, as a gateway would end its answer; every
 * tenth request stays open for a while.
 */
import { asTenantId, silentLogger, systemClock } from '#kernel';
import { createJournal } from '../journal.ts';
import { noMetrics, openedOf, recordOf } from './records.ts';

const [directory = '', tenant = ''] = process.argv.slice(2);
const tenantId = asTenantId(tenant);
const journal = createJournal(
  { clock: systemClock, logger: silentLogger, metrics: noMetrics },
  { directory, segmentBytes: 256 * 1024 },
);
const open = new Array<ReturnType<typeof recordOf>>();

function work(): void {
  const settled: string[] = [];
  for (let index = 0; index < 50; index += 1) {
    const record = recordOf(tenantId);
    journal.open(openedOf(record, tenantId));
    open.push(record);
    const oldest = index % 10 === 0 && open.length < 30 ? undefined : open.shift();
    if (oldest === undefined) continue;
    if (journal.settle(oldest) === undefined) settled.push(`settled ${oldest.request_id}\n`);
  }
  process.stdout.write(settled.join(''), () => setTimeout(work, 2));
}

work();
