import type { EventConsumer } from '../types.ts';
import { LeaseLost } from './attempt.ts';
import { beginHeld, failStored, giveUpStored, holdAgain, type StoredDelivery } from './deliveries.sql.ts';
import { diedFailure, type Failure, missingFailure, redrivesBeforeParking } from './failure.ts';
import { failedAttempt, type HandlingDeps, measured, peek, report } from './outcomes.ts';

/** An event of the store that is due and leased to this process. Its caller has taken a turn for it. */
export async function retryStored(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
): Promise<void> {
  if (delivery.state === 'held') await lookAtHeld(deps, consumer, delivery);
  else await tryStored(deps, consumer, delivery);
}

/** One attempt at a stored event that is leased to this process. */
export async function tryStored(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
): Promise<void> {
  const { event, leaseToken, isReplay } = delivery;
  const allowed = delivery.redrives > 0 ? 1 : deps.retryDelaysMs.length + 1;
  if (delivery.attempts > allowed) {
    await giveUp(deps, consumer, delivery, diedFailure);
    return;
  }
  try {
    const origin = isReplay ? 'replay' : 'store';
    const [outcome] = await measured(deps, consumer, { events: [event], origin, leaseToken });
    if (outcome === 'blocked' || outcome === 'gap') {
      await deps.db.withSystem('event-dispatch', (tx) => holdAgain(tx, delivery));
    }
  } catch (error) {
    if (error instanceof LeaseLost) return;
    const failed = failedAttempt(deps, error, delivery.attempts, delivery.redrives);
    await deps.db.withSystem('event-dispatch', (tx) => failStored(tx, delivery, failed, endState(delivery)));
    report(deps, consumer, event, failed);
  }
}

const endState = ({ redrives }: StoredDelivery): 'dead' | 'parked' =>
  redrives >= redrivesBeforeParking ? 'parked' : 'dead';

/** Without another attempt. */
async function giveUp(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
  failure: Failure,
): Promise<void> {
  const state = endState(delivery);
  await deps.db.withSystem('event-dispatch', (tx) => giveUpStored(tx, delivery, failure, state));
  report(deps, consumer, delivery.event, { failure, delayMs: null });
}

/** A held event that is due: it goes on waiting, or has its first attempt. */
async function lookAtHeld(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
): Promise<void> {
  const origin = delivery.isReplay ? 'replay' : 'store';
  const [judgement] = await peek(deps, consumer, [delivery.event], origin);
  const waitedMs = deps.clock.now() - delivery.firstSeenAt.getTime();
  if (judgement === 'gap' && waitedMs > deps.gapLimitMs) {
    await giveUp(deps, consumer, delivery, missingFailure);
    return;
  }
  if (judgement === 'blocked' || judgement === 'gap') {
    await deps.db.withSystem('event-dispatch', (tx) => holdAgain(tx, delivery));
    return;
  }
  const isOurs = await deps.db.withSystem('event-dispatch', (tx) => beginHeld(tx, delivery));
  if (isOurs) await tryStored(deps, consumer, { ...delivery, state: 'retrying', attempts: 1 });
}
