/**
 * A process that keeps a journal busy until somebody kills it: for the tests of recovery.
 * Arguments: folder, tenant. Says `settled <id>` once a request is settled, as a gateway would end its answer; every
 * tenth request stays open for a while.
 */
import { asTenantId, silentLogger, systemClock } from '#kernel';
import { createJournal } from '../journal.ts';
import type { OpenedRequest } from '../../types.ts';
import { noMetrics, openedOf, recordOf } from './records.ts';

const [directory = '', tenant = ''] = process.argv.slice(2);
const tenantId = asTenantId(tenant);
const journal = createJournal(
  { clock: systemClock, logger: silentLogger, metrics: noMetrics },
  { directory, segmentBytes: 256 * 1024 },
);
const open: { readonly record: ReturnType<typeof recordOf>; readonly opened: OpenedRequest }[] = [];

function work(): void {
  const settled: string[] = [];
  for (let index = 0; index < 50; index += 1) {
    const record = recordOf(tenantId);
    open.push({ record, opened: journal.open(openedOf(record, tenantId), () => undefined) });
    const oldest = index % 10 === 0 && open.length < 30 ? undefined : open.shift();
    if (oldest === undefined) continue;
    journal.settle(oldest.record, oldest.opened, (refusal) => {
      if (refusal === null) settled.push(`settled ${oldest.record.request_id}\n`);
    });
    // Some of the lines share a write, as under load, and some are killed between adding and writing.
    if (index % 7 === 0) journal.flush();
  }
  journal.flush();
  process.stdout.write(settled.join(''), () => setTimeout(work, 2));
}

work();
