/** One attempt to deliver a message, and what becomes of the delivery after it. */
import { type WebhookAttempt, webhookRetryDelaysMs } from '@stoa/contracts';
import type { GuardedAnswer, GuardedClient } from '#http';
import { type Clock, type Logger, type Sealer, toTypeId } from '#kernel';
import type { DeliveryRow, Settlement } from './deliveries.sql.ts';
import { secretPlace } from './endpoints.ts';
import { attemptsOf } from './objects.ts';
import { signedHeaders } from './signing.ts';
import type { EndpointRow } from './webhooks.sql.ts';

export interface AttemptDeps {
  readonly guarded: Pick<GuardedClient, 'call'>;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly logger: Logger;
  /** 0 up to 1, 1 excluded. */
  readonly random: () => number;
}

export type AttemptOutcome = 'delivered' | 'failed' | 'gone' | 'not_made';

export interface MadeAttempt {
  readonly outcome: AttemptOutcome;
  readonly durationMs: number;
  readonly settlement: Settlement;
}

/** Of an attempt, all of it; Standard Webhooks asks for 15 to 30 s. */
const attemptTimeoutMs = 15_000;
const excerptBytes = 1024;
const keptAttempts = 20;
const longestDelayMs = 24 * 3_600_000;
const overloadedDelayMs = 5_000;
const unsignedDelayMs = 5 * 60_000;
/** Added to each delay at random, so that what failed together does not come back together. */
const jitterShare = 0.05;

/** What a tenant is told of why there was no answer; nothing of our network. */
const faultMessages: Readonly<Record<string, string>> = {
  unreachable: 'No connection could be made: the name, the port or the certificate.',
  cut: 'The connection ended before the answer did.',
  unreadable: 'What came back is not HTTP.',
  timeout: `No whole answer came within ${attemptTimeoutMs / 1000} s.`,
  invalid: 'The message could not be sent.',
};

/**
 * Never rejects. What was not made for a reason of ours counts nowhere, neither in the schedule nor against the endpoint:
 * one that the signal ended is due again at once, one that found too many calls under way soon, and one that cannot be
 * signed (another master key) when somebody may have seen to it.
 */
export async function attempt(
  deps: AttemptDeps,
  endpoint: EndpointRow,
  delivery: DeliveryRow,
  signal: AbortSignal,
): Promise<MadeAttempt> {
  const { clock } = deps;
  const startedAt = new Date(clock.now());
  const startedMs = clock.monotonic();
  const answer = await post(deps, endpoint, delivery, startedAt, signal);
  const durationMs = Math.round((clock.monotonic() - startedMs) * 10) / 10;
  const putOff = (delayMs: number): MadeAttempt => {
    const again = new Date(startedAt.getTime() + delayMs);
    return { outcome: 'not_made', durationMs, settlement: notMade(delivery, again) };
  };
  if (answer === 'unsigned') return putOff(unsignedDelayMs);
  const ownMs = ownDelayMs(answer);
  if (ownMs !== null) return putOff(ownMs);
  const made = attemptRecord(answer, startedAt, durationMs);
  const outcome = outcomeOf(made.status);
  return { outcome, durationMs, settlement: settlementOf(deps, delivery, made, outcome, answer) };
}

async function post(
  { guarded, sealer, logger }: AttemptDeps,
  endpoint: EndpointRow,
  delivery: DeliveryRow,
  now: Date,
  signal: AbortSignal,
): Promise<GuardedAnswer | 'unsigned'> {
  const { tenant_id: tenantId, url, secret, previous_secret: previous, previous_until: until } = endpoint;
  const sealed = previous !== null && until !== null && until > now ? [secret, previous] : [secret];
  const message = {
    id: toTypeId('evt', delivery.event_id),
    body: delivery.payload,
    timestampSeconds: Math.floor(now.getTime() / 1000),
  };
  try {
    const secrets = sealed.map((one) => sealer.open(one, secretPlace(endpoint)));
    return await guarded.call({
      tenantId,
      method: 'POST',
      url,
      headers: [
        'content-type',
        'application/json',
        'user-agent',
        'Stoa-Webhooks/1',
        ...signedHeaders(message, secrets),
      ],
      body: Buffer.from(delivery.payload),
      limits: {
        timeoutMs: attemptTimeoutMs,
        maxBodyBytes: excerptBytes,
        whenTooLarge: 'cut',
        maxRedirects: 0,
      },
      signal,
    });
  } catch (error) {
    logger.error({ err: error, tenantId }, 'a webhook cannot be signed');
    return 'unsigned';
  }
}

/** When to come back where an attempt was not made for a reason of ours; null where it was made. */
function ownDelayMs(answer: GuardedAnswer): number | null {
  if (answer.outcome !== 'failed') return null;
  if (answer.fault.kind === 'cancelled') return 0;
  return answer.fault.kind === 'overloaded' ? overloadedDelayMs : null;
}

function attemptRecord(answer: GuardedAnswer, startedAt: Date, durationMs: number): WebhookAttempt {
  const record = { started_at: startedAt.toISOString(), duration_ms: durationMs };
  if (answer.outcome === 'answered')
    return { ...record, status: answer.status, error: null, response_excerpt: excerptOf(answer.body) };
  const error =
    answer.outcome === 'refused'
      ? { code: answer.refusal.reason, message: answer.refusal.detail }
      : { code: answer.fault.kind, message: faultMessages[answer.fault.kind] ?? 'The attempt failed.' };
  return { ...record, status: null, error, response_excerpt: null };
}

/** Storable text of what came: no NUL, and no half of a character at its end. */
function excerptOf(body: Buffer): string {
  return body.subarray(0, excerptBytes).toString('utf8').toWellFormed().replaceAll('\u0000', '\uFFFD');
}

function outcomeOf(status: number | null): AttemptOutcome {
  if (status === 410) return 'gone';
  return status !== null && status >= 200 && status < 300 ? 'delivered' : 'failed';
}

function settlementOf(
  { random }: AttemptDeps,
  delivery: DeliveryRow,
  made: WebhookAttempt,
  outcome: AttemptOutcome,
  answer: GuardedAnswer,
): Settlement {
  const endedAt = new Date(new Date(made.started_at).getTime() + made.duration_ms);
  const log = JSON.stringify([...attemptsOf(delivery), made].slice(-keptAttempts));
  const settled = { deliveryId: delivery.delivery_id, isCounted: true, attemptLog: log };
  if (outcome === 'delivered')
    return { ...settled, state: 'delivered', failures: 0, nextAttemptAt: null, deliveredAt: endedAt };
  const failures = delivery.failures + 1;
  const delayMs = webhookRetryDelaysMs[failures - 1];
  if (outcome === 'gone' || delivery.is_test || delayMs === undefined)
    return { ...settled, state: 'failed', failures, nextAttemptAt: null, deliveredAt: null };
  const askedMs = answer.outcome === 'answered' ? retryAfterMs(answer, endedAt) : 0;
  const waitMs = Math.max(delayMs * (1 + jitterShare * random()), askedMs);
  const nextAttemptAt = new Date(endedAt.getTime() + waitMs);
  return { ...settled, state: 'waiting', failures, nextAttemptAt, deliveredAt: null };
}

/** What an endpoint that is throttled asks for, up to a day; 0 where it asks for nothing. */
function retryAfterMs(answer: Extract<GuardedAnswer, { outcome: 'answered' }>, now: Date): number {
  const asked = answer.headers['retry-after'];
  if (typeof asked !== 'string' || (answer.status !== 429 && answer.status !== 503)) return 0;
  const ms = /^\d{1,9}$/.test(asked.trim()) ? Number(asked) * 1000 : Date.parse(asked) - now.getTime();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), longestDelayMs) : 0;
}

function notMade(delivery: DeliveryRow, again: Date): Settlement {
  return {
    deliveryId: delivery.delivery_id,
    state: 'waiting',
    isCounted: false,
    failures: delivery.failures,
    nextAttemptAt: again,
    attemptLog: delivery.attempt_log,
    deliveredAt: null,
  };
}
