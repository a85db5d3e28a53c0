import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { GuardedAnswer } from '#http';
import { createSealer, newUuid, silentLogger, systemClock } from '#kernel';
import { attempt, type AttemptDeps } from './attempt.ts';
import type { DeliveryRow } from './deliveries.sql.ts';
import { secretPlace } from './endpoints.ts';
import { makeSecret } from './signing.ts';
import type { EndpointRow } from './webhooks.sql.ts';

const sealer = createSealer(randomBytes(32));
const [tenantId, endpointId] = [newUuid(), newUuid()];
const now = new Date();
const endpoint: EndpointRow = {
  tenant_id: tenantId,
  endpoint_id: endpointId,
  url: 'https://hooks.example.com/',
  description: '',
  event_types: ['*'],
  disabled_reason: null,
  signature: 'v1',
  secret: sealer.seal(makeSecret('v1').secret, secretPlace({ tenant_id: tenantId, endpoint_id: endpointId })),
  public_key: null,
  previous_secret: null,
  previous_until: null,
  failing_since: null,
  last_duration_ms: null,
  round_at: null,
  round_token: null,
  created_by: 'key:x',
  given_up_until: null,
  version: 1n,
  created_at: now,
  changed_at: now,
};
const delivery: DeliveryRow = {
  tenant_id: tenantId,
  delivery_id: newUuid(),
  endpoint_id: endpointId,
  event_id: newUuid(),
  event_type: 'run.changed.v1',
  payload: '{}',
  is_test: false,
  traceparent: null,
  state: 'waiting',
  attempts: 9,
  failures: 9,
  next_attempt_at: now,
  attempt_log: '[]',
  created_at: now,
  delivered_at: null,
};

const made = (answer: GuardedAnswer, changes: Partial<AttemptDeps> = {}) => {
  const deps = { sealer, clock: systemClock, logger: silentLogger, random: () => 0, ...changes };
  const guarded = { call: () => Promise.resolve(answer) };
  return attempt({ guarded, ...deps }, endpoint, delivery, new AbortController().signal);
};
const failed = (kind: 'overloaded' | 'cancelled' | 'unreachable'): GuardedAnswer => ({
  outcome: 'failed',
  fault: { kind, code: null, detail: '' },
});

test('what was not sent for a reason of ours counts nowhere, be it the last of the ten attempts', async () => {
  const other = createSealer(randomBytes(32));
  for (const [answer, changes, leastMs, mostMs] of [
    [failed('cancelled'), {}, -100, 100],
    [failed('overloaded'), {}, 4_000, 6_000],
    [failed('unreachable'), { sealer: other }, 290_000, 310_000],
  ] as const) {
    const { outcome, settlement } = await made(answer, changes);
    assert.equal(outcome, 'not_made');
    assert.deepEqual(
      [settlement.state, settlement.isCounted, settlement.failures, settlement.attemptLog],
      ['waiting', false, 9, '[]'],
    );
    const inMs = (settlement.nextAttemptAt?.getTime() ?? 0) - Date.now();
    assert.ok(inMs > leastMs && inMs < mostMs, `${inMs} ms`);
  }
  const { outcome, settlement } = await made(failed('unreachable'));
  assert.deepEqual([outcome, settlement.state], ['failed', 'failed']);
});
