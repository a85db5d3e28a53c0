import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ManualClock, manualClock } from '#kernel';
import { type ProviderFault, providerFault, type Target } from '#models';
import { testTarget } from '../chat-path.harness.ts';
import { Circuits, throttleCeilingMs } from './circuits.ts';
import { type CallStep, type Step, TargetWalk, tryWithinMs } from './target-walk.ts';

const first = testTarget({ id: 'first', providerId: 'a' });
const second = testTarget({ id: 'second', providerId: 'b' });
const third = testTarget({ id: 'third', providerId: 'c' });

interface Walked {
  readonly clock: ManualClock;
  readonly circuits: Circuits;
  readonly walk: TargetWalk;
}

function walkOver(...targets: Target[]): Walked {
  const clock = manualClock();
  const circuits = new Circuits(clock);
  return { clock, circuits, walk: new TargetWalk({ circuits, random: () => 0.5 }, targets) };
}

function called(step: Step, target: Target): CallStep {
  assert.ok(step.kind === 'call', JSON.stringify(step));
  assert.equal(step.target.id, target.id);
  return step;
}

function errorOf(step: Step): { code: string; retryAfterMs: number | null; wasMoneySpent: boolean } {
  assert.ok(step.kind === 'end', step.kind);
  const { code, retryAfterMs, wasMoneySpent } = step.error;
  return { code, retryAfterMs, wasMoneySpent };
}

function failed(walk: TargetWalk, step: CallStep, kind: ProviderFault['kind'], elapsedMs = 0): Step {
  walk.countTry();
  step.circuit.breaker.fail(step.permit);
  return walk.afterFault(providerFault(kind, 'x'), step.circuit, elapsedMs);
}

test('one target is tried three times, with a pause before each retry, and its last fault is the error', () => {
  const { walk } = walkOver(first);
  let step = called(walk.enter(), first);
  for (const atLeastMs of [100, 200]) {
    const pause = failed(walk, step, 'status');
    assert.ok(pause.kind === 'pause' && pause.forMs >= atLeastMs && pause.forMs <= atLeastMs * 2);
    step = called(walk.enter(), first);
  }
  assert.equal(errorOf(failed(walk, step, 'status')).code, 'provider_error');
});

test('with a fallback a target is tried twice, then the next one; three tries in all', () => {
  const { walk } = walkOver(first, second, third);
  assert.equal(failed(walk, called(walk.enter(), first), 'unreachable').kind, 'pause');
  const next = failed(walk, called(walk.enter(), first), 'unreachable');
  assert.equal(errorOf(failed(walk, called(next, second), 'unreachable')).code, 'provider_unreachable');
});

test('an empty retry budget sends the request to the next target at once', () => {
  const { walk, circuits } = walkOver(first, second);
  while (circuits.of(first).retries.withdraw());
  called(failed(walk, called(walk.enter(), first), 'status'), second);
});

test('no try begins after 30 seconds', () => {
  const { walk } = walkOver(first, second);
  const step = failed(walk, called(walk.enter(), first), 'timeout', tryWithinMs);
  assert.equal(errorOf(step).code, 'provider_timeout');
  const late = walkOver(first);
  const pause = failed(late.walk, called(late.walk.enter(), first), 'status', tryWithinMs - 50);
  assert.equal(pause.kind, 'end');
});

test('a rejection is the client to mend and ends the walk, fallback or not', () => {
  const { walk } = walkOver(first, second);
  const step = called(walk.enter(), first);
  walk.countTry();
  const rejection = { code: 'context_length_exceeded', param: 'messages', message: 'too long' };
  const end = walk.afterFault(providerFault('rejected', 'x', { status: 400, rejection }), step.circuit, 0);
  assert.deepEqual(errorOf(end), {
    code: 'context_length_exceeded',
    retryAfterMs: null,
    wasMoneySpent: false,
  });
});

test('a throttled target is left alone for as long as it asked, with a floor and a ceiling', () => {
  for (const [asked, leftAloneMs] of [
    [null, 1_000],
    [5, 1_000],
    [7_000, 7_000],
    [86_400_000, throttleCeilingMs],
  ] as const) {
    const { walk, circuits, clock } = walkOver(first);
    const step = called(walk.enter(), first);
    walk.countTry();
    const end = walk.afterFault(providerFault('throttled', 'x', { retryAfterMs: asked }), step.circuit, 0);
    assert.deepEqual(errorOf(end), {
      code: 'provider_throttled',
      retryAfterMs: leftAloneMs,
      wasMoneySpent: false,
    });
    assert.equal(circuits.isHealthy(first), false);
    const another = new TargetWalk({ circuits, random: () => 0 }, [first]);
    assert.equal(errorOf(another.enter()).code, 'provider_throttled', 'the next request does not call it');
    clock.advance(leftAloneMs);
    assert.equal(circuits.isHealthy(first), true);
  }
});

test('throttling sends a request with a fallback there, without a second try', () => {
  const { walk } = walkOver(first, second);
  const step = called(walk.enter(), first);
  walk.countTry();
  called(walk.afterFault(providerFault('throttled', 'x'), step.circuit, 0), second);
});

test('a 503 with Retry-After keeps its own error and marks the target', () => {
  const { walk, circuits } = walkOver(first);
  const step = called(walk.enter(), first);
  walk.countTry();
  const fault = providerFault('status', 'x', { status: 503, retryAfterMs: 3_000 });
  assert.equal(errorOf(walk.afterFault(fault, step.circuit, 0)).code, 'provider_error');
  assert.equal(circuits.isHealthy(first), false);
});

test('an open breaker passes the target over, and is the error where nothing is left', () => {
  const { walk, circuits } = walkOver(first, second);
  const { breaker } = circuits.of(first);
  while (breaker.state === 'closed') breaker.fail(breaker.admit());
  called(walk.enter(), second);
  const alone = new TargetWalk({ circuits, random: () => 0 }, [first]);
  assert.deepEqual(errorOf(alone.enter()), {
    code: 'target_unavailable',
    retryAfterMs: 1_000,
    wasMoneySpent: false,
  });
});

test('a wrong credential is not tried again, and is told as ours', () => {
  const { walk } = walkOver(first);
  assert.equal(
    errorOf(failed(walk, called(walk.enter(), first), 'credential')).code,
    'provider_misconfigured',
  );
});

test('whether money may have been spent follows the faults of all tries', () => {
  for (const [kind, wasSpent] of [
    ['unreachable', false],
    ['status', false],
    ['credential', false],
    ['unreadable', true],
    ['empty', true],
    ['cut', true],
    ['error_frame', true],
    ['timeout', true],
  ] as const) {
    const { walk } = walkOver(first, second);
    const next = failed(walk, called(walk.enter(), first), kind, 0);
    const step = next.kind === 'pause' ? called(walk.enter(), first) : called(next, second);
    walk.countTry();
    const end = walk.afterFault(providerFault('throttled', 'x'), step.circuit, tryWithinMs);
    assert.equal(errorOf(end).wasMoneySpent, wasSpent, kind);
  }
});

test('the circuits are kept by credential and model, and never more than their bound', () => {
  const circuits = new Circuits(manualClock());
  const shared = circuits.of(first);
  assert.equal(circuits.of(testTarget({ id: 'alias', model: 'first', providerId: 'a' })), shared);
  assert.notEqual(circuits.of(testTarget({ id: 'first', providerId: 'b' })), shared);
  for (let index = 0; index < 10_100; index += 1) circuits.of(testTarget({ id: `t${index}` }));
  const { closed } = circuits.countByState();
  assert.equal(closed, 10_000);
});
