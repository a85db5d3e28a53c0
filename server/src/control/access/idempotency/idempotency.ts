import type { Database, SystemHandle, TenantHandle } from '#db';
import type { IdempotencyStore, KeepAnswer, RouteReply } from '#http';
import { AppError, type Clock, type Logger, newUuid, type Principal, type Sealer } from '#kernel';
import {
  claimPlace,
  deleteExpired,
  type IdempotencyPlace,
  releaseClaim,
  storeAnswer,
} from './idempotency.sql.ts';

/**
 * Creating POSTs that may be sent again. A request with an Idempotency-Key claims its place, (caller's key, endpoint,
 * Idempotency-Key), runs, and leaves its answer there for 24 hours. The claim is a transaction of its own; the answer is
 * written in the transaction of the change, so that there is never a change without its answer.
 *
 * | what is in the place | what the same request gets |
 * | --- | --- |
 * | nothing, or something expired | runs |
 * | an answer to the same body | that answer |
 * | an answer to another body, or a claim for one | `idempotency_conflict` |
 * | a claim younger than 60 s | `idempotency_in_progress` |
 * | a claim without an answer that is older | takes it over and runs: the process that made it died |
 *
 * A process that dies before its commit has changed nothing, and after it has left its answer. A request that failed gives
 * its claim back, but for one whose answer was committed all the same: the connection was lost at the commit, say, and its
 * repeat gets the answer. A request that is so slow that its claim was taken over finds that out when it writes its answer,
 * and its change is rolled back: the other's holds.
 *
 * The answer to a new key holds its plaintext, so answers are sealed under the master key and bound to their place.
 */
export interface IdempotencyDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly sealer: Sealer;
}

const keptMs = 24 * 60 * 60 * 1000;
/** Far longer than any creating POST takes; one that took longer would be refused in favour of its repeat. */
const abandonedAfterMs = 60_000;
const rowsPerSweep = 5000;

export function createIdempotencyStore(deps: IdempotencyDeps): IdempotencyStore {
  return {
    async once({ principal, endpointId, key, bodyHash }, fn) {
      if (key.length === 0 || key.length > 255) {
        throw new AppError('invalid_request', 'Idempotency-Key must be 1 to 255 characters.', {
          param: 'Idempotency-Key',
        });
      }
      const place: IdempotencyPlace = {
        tenantId: principal.kind === 'tenant' ? principal.tenantId : null,
        keyId: callerOf(principal),
        endpointId,
        idempotencyKey: key,
      };
      const claimId = newUuid();
      const remembered = await claim(deps, place, claimId, bodyHash);
      if (remembered !== null) return remembered;
      const state = { isKept: false };
      const keep: KeepAnswer = async (tx, reply) => {
        const answer = deps.sealer.seal(JSON.stringify(reply), placeText(place));
        if (!(await storeAnswer(tx, place, claimId, answer))) throw inProgress();
        state.isKept = true;
        return { kept: reply };
      };
      let reply: RouteReply;
      try {
        reply = await fn(keep);
      } catch (error) {
        await release(deps, place, claimId);
        throw error;
      }
      if (!state.isKept)
        throw new AppError('internal_error', `The answer of ${endpointId} was not kept with its change.`);
      return reply;
    },
  };
}

/**
 * Whose answers are remembered together: a key's, with the tokens that were made with it. All tokens of an outside issuer
 * have its id as their key, so there it is each member's, and where the issuer names none, each token's own.
 */
function callerOf(principal: Principal): string {
  if (principal.kind === 'operator' || !principal.keyId.startsWith('isr_')) return principal.keyId;
  return `${principal.keyId} ${principal.memberId ?? principal.tokenId ?? ''}`;
}

async function throughDoor<T>(
  db: Database,
  place: IdempotencyPlace,
  fn: (tx: TenantHandle | SystemHandle) => Promise<T>,
): Promise<T> {
  return place.tenantId === null
    ? db.withSystem('idempotency', fn)
    : db.withTenant({ tenantId: place.tenantId }, fn);
}

/** Takes the place, or answers with what was remembered there. */
async function claim(
  { db, clock, sealer }: IdempotencyDeps,
  place: IdempotencyPlace,
  claimId: string,
  bodyHash: string,
): Promise<RouteReply | null> {
  const nowMs = clock.now();
  const stored = await throughDoor(db, place, (tx) =>
    claimPlace(tx, place, {
      claimId,
      bodyHash,
      now: new Date(nowMs),
      abandonedBefore: new Date(nowMs - abandonedAfterMs),
      expiresAt: new Date(nowMs + keptMs),
    }),
  );
  // Null: the claim that stood in the way was given back between our two statements.
  if (stored === null) throw inProgress();
  if (stored.claim_id === claimId) return null;
  if (stored.body_hash !== bodyHash) {
    throw new AppError(
      'idempotency_conflict',
      'This Idempotency-Key was used with another request in the last 24 hours.',
      { param: 'Idempotency-Key' },
    );
  }
  if (stored.answer === null) throw inProgress();
  return replyFrom(sealer.open(stored.answer, placeText(place)));
}

async function release(
  { db, logger }: IdempotencyDeps,
  place: IdempotencyPlace,
  claimId: string,
): Promise<void> {
  try {
    await throughDoor(db, place, (tx) => releaseClaim(tx, place, claimId));
  } catch (error) {
    logger.warn({ err: error }, 'a claim of an idempotency key was not given back; it lapses after 60 s');
  }
}

/** Deletes what is older than 24 hours; answers how many rows went. May run in several processes. */
export async function sweepIdempotencyKeys({
  db,
  clock,
}: {
  readonly db: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
}): Promise<number> {
  let swept = 0;
  for (;;) {
    const deleted = await db.withSystem('retention', (tx) =>
      deleteExpired(tx, new Date(clock.now()), rowsPerSweep),
    );
    swept += deleted;
    if (deleted < rowsPerSweep) return swept;
  }
}

function inProgress(): AppError {
  return new AppError('idempotency_in_progress', 'A request with this Idempotency-Key is still running.', {
    retryAfterMs: 1000,
  });
}

/** What a sealed answer is bound to. Lengths first, so that no two places make the same text. */
function placeText(place: IdempotencyPlace): string {
  const parts = [place.tenantId ?? 'operator', place.keyId, place.endpointId, place.idempotencyKey];
  return `idempotency:${parts.map((part) => `${part.length}:${part}`).join(',')}`;
}

function replyFrom(text: string): RouteReply {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || !('status' in value) || typeof value.status !== 'number')
    throw new AppError('internal_error', 'A remembered answer could not be read.');
  const headers = 'headers' in value ? headersFrom(value.headers) : {};
  return { status: value.status, headers, ...('body' in value ? { body: value.body } : {}) };
}

function headersFrom(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
