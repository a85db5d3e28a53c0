import type { Database } from '#db';
import { defineJob, type Job, type JobContext, type JobsApi, type NamedJob } from '#jobs';
import type { Logger } from '#kernel';
import { z } from 'zod';
import { deleteDeliveriesOf, deleteOldDeliveries } from './deliveries.sql.ts';
import { forgetOldSecrets, removeEndpoint, selectDeleted, takeLostRounds } from './rounds.sql.ts';
import type { EndpointName } from './webhooks.sql.ts';

const roundData = z.strictObject({ endpoint_id: z.uuid(), token: z.uuid() });
export type RoundData = z.infer<typeof roundData>;

/** The round of one endpoint. It waits for others more than it works, so it has places of its own. */
export function roundJob(run: (context: JobContext<RoundData>) => Promise<void>): Job<RoundData> {
  return defineJob({
    name: 'webhook-round',
    scope: 'tenant',
    data: roundData,
    deadlineMs: 60_000,
    // Of what is ours: the database away, a killed process. What an endpoint answers never fails a round.
    retry: { limit: 20, delayMs: 5_000, backoff: true },
    isWaiting: true,
    run,
  });
}

export interface UpkeepDeps {
  readonly db: Pick<Database, 'withSystem'>;
  readonly jobs: () => JobsApi;
  readonly round: Job<RoundData>;
  readonly logger: Logger;
}

const keptDays = 30;
const batchRows = 2_000;
const endpointsAtOnce = 100;
/** Longer than a round with its job's retries for a database that comes and goes. */
const lostAfterMs = 15 * 60_000;

/** Deletes what is past its days, its overlap or its endpoint, and plans rounds anew whose job was lost. Every ten minutes; may be repeated. */
export function upkeepJob(deps: UpkeepDeps): NamedJob {
  return defineJob({
    name: 'webhook-upkeep',
    scope: 'system',
    data: z.strictObject({}),
    schedule: '*/10 * * * *',
    deadlineMs: 600_000,
    retry: { limit: 2, delayMs: 60_000, backoff: true },
    run: ({ signal }) => keepUp(deps, signal),
  });
}

async function keepUp({ db, jobs, round, logger }: UpkeepDeps, signal: AbortSignal): Promise<void> {
  await db.withSystem('webhook-upkeep', async (tx) => {
    await forgetOldSecrets(tx);
    const lost = await takeLostRounds(tx, lostAfterMs);
    if (lost.length > 0)
      logger.info(
        { count: lost.length },
        'rounds of webhooks had lost their job, or a backlog to give up; planned anew',
      );
    await jobs().enqueueEach(
      tx,
      round,
      lost.map((one) => ({
        tenantId: one.tenant_id,
        data: { endpoint_id: one.endpoint_id, token: one.round_token },
      })),
    );
  });
  for (let deleted = batchRows; deleted === batchRows && !signal.aborted; ) {
    deleted = await db.withSystem('webhook-upkeep', (tx) => deleteOldDeliveries(tx, keptDays, batchRows));
  }
  const gone = await db.withSystem('webhook-upkeep', (tx) => selectDeleted(tx, endpointsAtOnce));
  for (const endpoint of gone) await deleteEndpointRows(db, endpoint, signal);
}

/** Deliveries first, in pieces, so that the cascade of the endpoint's row finds none. What is left is the next upkeep's. */
async function deleteEndpointRows(
  db: UpkeepDeps['db'],
  endpoint: EndpointName,
  signal: AbortSignal,
): Promise<void> {
  for (let deleted = batchRows; deleted === batchRows; ) {
    if (signal.aborted) return;
    deleted = await db.withSystem('webhook-upkeep', (tx) => deleteDeliveriesOf(tx, endpoint, batchRows));
  }
  await db.withSystem('webhook-upkeep', (tx) => removeEndpoint(tx, endpoint));
}
