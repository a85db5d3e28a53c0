import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../clock.ts';
import { CircuitBreaker, defaultCircuitBreakerSettings as defaults } from './circuit-breaker.ts';

function failTimes(breaker: CircuitBreaker, times: number): void {
  for (let index = 0; index < times; index += 1) breaker.fail(breaker.admit());
}

test('failures in a row open the breaker, and one fewer does not', () => {
  const breaker = new CircuitBreaker(manualClock());
  failTimes(breaker, defaults.consecutiveFailures - 1);
  assert.equal(breaker.state, 'closed');
  failTimes(breaker, 1);
  assert.equal(breaker.state, 'open');
  assert.equal(breaker.admit(), 'refused');
  assert.equal(breaker.isPermitting, false);
  assert.equal(breaker.retryAfterMs, defaults.openForMs);
});

test('a success in between starts the row again', () => {
  const breaker = new CircuitBreaker(manualClock(), { ...defaults, sampleSize: 1_000 });
  for (let round = 0; round < 5; round += 1) {
    failTimes(breaker, defaults.consecutiveFailures - 1);
    breaker.succeed(breaker.admit());
  }
  assert.equal(breaker.state, 'closed');
});

test('more than half of the last twenty calls failing opens it without a row', () => {
  const breaker = new CircuitBreaker(manualClock());
  for (let index = 0; index < 9; index += 1) {
    failTimes(breaker, 1);
    breaker.succeed(breaker.admit());
  }
  failTimes(breaker, 2);
  assert.equal(breaker.state, 'open');
});

test('after its time one probe goes through, and its success closes the breaker', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  failTimes(breaker, defaults.consecutiveFailures);
  clock.advance(defaults.openForMs);
  assert.equal(breaker.state, 'half_open');
  const probe = breaker.admit();
  assert.equal(probe, 'probe');
  assert.equal(breaker.admit(), 'refused', 'only one probe at a time');
  breaker.succeed(probe);
  assert.equal(breaker.state, 'closed');
  assert.equal(breaker.admit(), 'call');
});

test('a failing probe doubles the time, up to the limit', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  failTimes(breaker, defaults.consecutiveFailures);
  let openForMs = defaults.openForMs;
  for (let round = 0; round < 8; round += 1) {
    clock.advance(openForMs);
    breaker.fail(breaker.admit());
    openForMs = Math.min(openForMs * 2, defaults.maximumOpenForMs);
    assert.equal(breaker.retryAfterMs, openForMs);
  }
  assert.equal(openForMs, defaults.maximumOpenForMs);
});

test('a cancelled probe is no verdict: the next call is the probe', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  failTimes(breaker, defaults.consecutiveFailures);
  clock.advance(defaults.openForMs);
  breaker.forget(breaker.admit());
  assert.equal(breaker.state, 'half_open');
  assert.equal(breaker.admit(), 'probe');
});

test('a probe that hangs is not waited for beyond the patience', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  failTimes(breaker, defaults.consecutiveFailures);
  clock.advance(defaults.openForMs);
  breaker.admit();
  clock.advance(defaults.probePatienceMs - 1);
  assert.equal(breaker.retryAfterMs, 1);
  assert.equal(breaker.admit(), 'refused');
  clock.advance(1);
  assert.equal(breaker.admit(), 'probe');
});

test('a call that began before the breaker opened neither closes it nor keeps it open', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  const early = breaker.admit();
  failTimes(breaker, defaults.consecutiveFailures);
  breaker.succeed(early);
  assert.equal(breaker.state, 'open');
  clock.advance(400);
  breaker.fail(early);
  assert.equal(breaker.retryAfterMs, defaults.openForMs - 400);
});

test('failures before a long silence are forgotten', () => {
  const clock = manualClock();
  const breaker = new CircuitBreaker(clock);
  failTimes(breaker, defaults.consecutiveFailures - 1);
  clock.advance(defaults.forgetAfterMs + 1);
  failTimes(breaker, 1);
  assert.equal(breaker.state, 'closed');
});
