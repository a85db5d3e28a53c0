/**
 * Rounds: the deliveries of one endpoint, in a job.
 *
 * Problem: a slow endpoint must not hold up others, a busy one must not cost a job for each message, and nothing may be
 * sent by two at once or be forgotten. Approach: each endpoint has at most one round, named by the token in its row. A
 * round takes what is due, some at a time, posts it, writes what came of it, and looks again; when its time is over it
 * plans the next one and lets others have the place. When nothing is due it plans the next for when something will be.
 *
 * That nothing is forgotten: whoever writes deliveries holds the lock of the endpoint's row while it does, and plans a
 * round unless one is due or under way; a round ends by looking for more under the same lock. That nothing is sent by two
 * at once: what a round takes is put aside for a minute, which is longer than an attempt; after that whoever took it is
 * dead. A job whose token is not the row's has been overtaken and does nothing.
 *
 * That waiting costs no jobs: a busy endpoint ends a round many times while the same retry lies hours ahead. The token of
 * a round that is planned for a retry comes of its time, and its job has that token as its key, so that planning it again
 * finds the job that is there. (A job each time left tens of thousands a day that did nothing when their time came.)
 *
 * Bounds: 8 messages at once to an endpoint, 2 to a slow one; of the places for such jobs half may go to slow endpoints
 * and a quarter to one tenant, what is over is put off by two seconds, or more where many are put off: they come back one
 * after the other, so that the looking never costs more than the sending. What is to be given up goes in pieces.
 */
import { createHash } from 'node:crypto';
import type { Database, TenantHandle } from '#db';
import type { Job, JobContext, JobsApi } from '#jobs';
import { newUuid } from '#kernel';
import type { Counter, Histogram } from '#telemetry';
import { type AttemptDeps, attempt, type MadeAttempt } from './attempt.ts';
import { claimDue, type DeliveryRow, failWaiting, nextDue, settle } from './deliveries.sql.ts';
import type { RoundData } from './jobs.ts';
import { PlaceShare } from './places.ts';
import { noteHealth, planRound, standingOf } from './rounds.sql.ts';
import { type EndpointRow, forgetGivenUp, lockEndpoint, selectEndpoint } from './webhooks.sql.ts';

export interface RoundDeps extends AttemptDeps {
  readonly db: Pick<Database, 'withTenant' | 'withSystem'>;
  readonly jobs: () => JobsApi;
  readonly counts: {
    readonly attempts: Counter;
    readonly seconds: Histogram;
    readonly putOff: Counter;
  };
  /** Disables an endpoint for a reason of its own, unless it has moved; twice is once. */
  readonly disable: (endpoint: EndpointRow, reason: 'gone' | 'failing') => Promise<void>;
}

export interface RoundSettings {
  /** Places for such jobs in this process; default 32. */
  readonly places?: number;
  /** How long a round goes on while there is more to do; default 10,000. Milliseconds. */
  readonly roundMs?: number;
  /** After so long without any success an endpoint is disabled; default five days. Milliseconds. */
  readonly giveUpMs?: number;
  /** How often it is looked whether a suspended tenant goes on; default five minutes. Milliseconds. */
  readonly heldMs?: number;
}

type RoundJob = Job<RoundData>;

const leaseMs = 60_000;
const atOnce = { healthy: 8, slow: 2 } as const;
const slowMs = 3_000;

/** Answers the work of a round's job. */
export function createRounds(
  deps: RoundDeps,
  settings: RoundSettings,
  own: () => RoundJob,
): (context: JobContext<RoundData>) => Promise<void> {
  const places = settings.places ?? 32;
  const slowOnes = new PlaceShare(places / 2);
  const tenants = new Map<string, PlaceShare>();
  return async ({ tenantId, data, signal }) => {
    if (tenantId === null) throw new Error('a round is a tenant’s');
    const round = { tenantId, endpointId: data.endpoint_id, token: data.token, signal };
    const first = await deps.db.withTenant({ tenantId }, (tx) =>
      selectEndpoint(tx, tenantId, round.endpointId),
    );
    if (first === undefined || first.round_token !== round.token) return;
    const slow = isSlow(first) ? slowOnes : null;
    const ofTenant = tenants.get(tenantId) ?? new PlaceShare(places / 4);
    const full = slow?.isFull === true ? slow : ofTenant.isFull ? ofTenant : null;
    if (full !== null) {
      deps.counts.putOff.add(1, { reason: full === slow ? 'slow' : 'tenant' });
      await plan(deps, own(), round, new Date(full.comeBackAt(deps.clock.now())));
      return;
    }
    tenants.set(tenantId, ofTenant);
    slow?.enter();
    ofTenant.enter();
    try {
      await goRound(deps, own(), round, settings);
    } finally {
      slow?.leave();
      ofTenant.leave();
      if (ofTenant.isEmpty) tenants.delete(tenantId);
    }
  };
}

interface Round {
  readonly tenantId: string;
  readonly endpointId: string;
  readonly token: string;
  readonly signal: AbortSignal;
}

/** Whoever fails or takes long is given few at a time, so that it holds its place for one timeout and no more. */
function isSlow(endpoint: EndpointRow): boolean {
  return endpoint.failing_since !== null || (endpoint.last_duration_ms ?? 0) > slowMs;
}

async function goRound(deps: RoundDeps, job: RoundJob, round: Round, settings: RoundSettings): Promise<void> {
  const { clock } = deps;
  const untilMs = clock.monotonic() + (settings.roundMs ?? 10_000);
  for (;;) {
    const taken = await take(deps, job, round, settings.heldMs ?? 300_000);
    if (taken === null) return;
    if (taken !== 'gave_up' && taken.deliveries.length === 0) {
      if (await finish(deps, job, round)) return;
      continue;
    }
    if (taken !== 'gave_up') await deliver(deps, round, taken, settings.giveUpMs ?? 5 * 86_400_000);
    if (round.signal.aborted || clock.monotonic() > untilMs) {
      await plan(deps, job, round, new Date(clock.now()));
      return;
    }
  }
}

interface Taken {
  readonly endpoint: EndpointRow;
  readonly deliveries: readonly DeliveryRow[];
}

/**
 * What is due of the endpoint; null where the round is over: overtaken, deleted, nothing is sent any more, or not now.
 * `gave_up`: a piece of what is not to be sent any more was given up; ask again.
 */
async function take(
  { db, jobs, clock }: RoundDeps,
  job: RoundJob,
  round: Round,
  heldMs: number,
): Promise<Taken | 'gave_up' | null> {
  const { tenantId, endpointId, token } = round;
  return db.withTenant({ tenantId }, async (tx) => {
    const endpoint = await selectEndpoint(tx, tenantId, endpointId);
    if (endpoint === undefined || endpoint.round_token !== token) return null;
    const standing = await standingOf(tx, tenantId);
    if (endpoint.disabled_reason !== null || standing === 'deleted') return giveUp(tx, round, 'all');
    if (endpoint.given_up_until !== null) return giveUp(tx, round, 'given_up');
    if (standing === 'suspended') {
      const held = await lockEndpoint(tx, tenantId, endpointId);
      const at = new Date(clock.now() + heldMs);
      if (held?.round_token === token) await planWith(tx, jobs(), job, { tenantId, endpointId }, at);
      return null;
    }
    const limit = isSlow(endpoint) ? atOnce.slow : atOnce.healthy;
    return { endpoint, deliveries: await claimDue(tx, tenantId, endpointId, { limit, leaseMs }) };
  });
}

/**
 * Gives up a piece of what waits. Where that was `all` of it, since nothing is sent to this endpoint any more, the round is
 * over and none is planned: null.
 */
async function giveUp(
  tx: TenantHandle,
  { tenantId, endpointId, token }: Round,
  part: 'all' | 'given_up',
): Promise<'gave_up' | null> {
  const endpoint = await lockEndpoint(tx, tenantId, endpointId);
  if (endpoint === undefined || endpoint.round_token !== token) return null;
  if (!(await failWaiting(tx, tenantId, endpointId, part))) return 'gave_up';
  await forgetGivenUp(tx, tenantId, endpointId);
  if (part === 'given_up') return 'gave_up';
  await planRound(tx, tenantId, endpointId, null);
  return null;
}

async function deliver(deps: RoundDeps, round: Round, taken: Taken, giveUpMs: number): Promise<void> {
  const { db, counts } = deps;
  const { tenantId, signal } = round;
  const { endpoint, deliveries } = taken;
  const attempts = await Promise.all(deliveries.map((delivery) => attempt(deps, endpoint, delivery, signal)));
  const made = attempts.filter(({ outcome }) => outcome !== 'not_made');
  for (const { outcome, durationMs } of made) {
    counts.attempts.add(1, { outcome });
    counts.seconds.observe(durationMs / 1000);
  }
  const failingSince = await db.withTenant({ tenantId }, async (tx) => {
    const since = made.length === 0 ? null : await noteHealth(tx, tenantId, endpoint, healthOf(made));
    for (const { settlement } of attempts) await settle(tx, tenantId, settlement);
    return since;
  });
  if (made.some(({ outcome }) => outcome === 'gone')) await deps.disable(endpoint, 'gone');
  else if (failingSince !== null && deps.clock.now() - failingSince.getTime() >= giveUpMs)
    await deps.disable(endpoint, 'failing');
}

function healthOf(made: readonly MadeAttempt[]): { hasFailed: boolean; durationMs: number } {
  return {
    hasFailed: made.every(({ outcome }) => outcome !== 'delivered'),
    durationMs: Math.max(...made.map(({ durationMs }) => durationMs)),
  };
}

/** Ends the round where nothing is due: plans the next for when something will be. False where something has come since. */
async function finish({ db, jobs }: RoundDeps, job: RoundJob, round: Round): Promise<boolean> {
  const { tenantId, endpointId, token } = round;
  return db.withTenant({ tenantId }, async (tx) => {
    const endpoint = await lockEndpoint(tx, tenantId, endpointId);
    if (endpoint === undefined || endpoint.round_token !== token) return true;
    const next = await nextDue(tx, tenantId, endpointId);
    if (next?.isNow === true) return false;
    if (next === null) await planRound(tx, tenantId, endpointId, null);
    else await planRetry(tx, jobs(), job, { tenantId, endpointId }, next.at);
    return true;
  });
}

/** Plans the round of a retry that lies ahead: for one time of one endpoint there is one job, however often it is planned. */
async function planRetry(
  tx: TenantHandle,
  jobs: JobsApi,
  job: RoundJob,
  { tenantId, endpointId }: { readonly tenantId: string; readonly endpointId: string },
  dueAt: Date,
): Promise<void> {
  // The database counts in microseconds, and a job that starts before its delivery is due would find nothing.
  const at = new Date(dueAt.getTime() + 1);
  const token = tokenOf(endpointId, at);
  await planRound(tx, tenantId, endpointId, { at, token });
  await jobs.enqueue(tx, job, { endpoint_id: endpointId, token }, { runAfter: at, key: token });
}

/** A UUID (version 8, of our own making) for one endpoint and millisecond. */
function tokenOf(endpointId: string, at: Date): string {
  const hash = createHash('sha256').update(`${endpointId} ${at.getTime()}`).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-a${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}

/** Plans another round in the place of this one. */
async function plan({ db, jobs }: RoundDeps, job: RoundJob, round: Round, at: Date): Promise<void> {
  const { tenantId, endpointId, token } = round;
  await db.withTenant({ tenantId }, async (tx) => {
    const endpoint = await lockEndpoint(tx, tenantId, endpointId);
    if (endpoint?.round_token === token) await planWith(tx, jobs(), job, { tenantId, endpointId }, at);
  });
}

/** Plans a round of an endpoint whose row is locked. */
export async function planWith(
  tx: TenantHandle,
  jobs: JobsApi,
  job: RoundJob,
  { tenantId, endpointId }: { readonly tenantId: string; readonly endpointId: string },
  at: Date,
): Promise<void> {
  const token = newUuid();
  await planRound(tx, tenantId, endpointId, { at, token });
  await jobs.enqueue(tx, job, { endpoint_id: endpointId, token }, { runAfter: at });
}
