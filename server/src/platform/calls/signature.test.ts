import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type ManualClock, manualClock, newRequestId } from '#kernel';
import {
  type ClusterVerifier,
  createClusterSigner,
  createClusterVerifier,
  toleranceMs,
} from './signature.ts';

const old = 'the secret that goes, long enough for anybody';
const next = 'the secret that comes, long enough for anybody';
const path = '/internal/v1/fixture/echo';
const body = Buffer.from('{"a":1}');

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof AppError);
    return error.code;
  }
  return 'accepted';
}

function signed(secret: string, clock: ManualClock): string {
  return createClusterSigner({ current: secret, previous: null }, clock).signCall('POST', path, body);
}

function verdict(verifier: ClusterVerifier, authorization: string | undefined): string {
  return codeOf(() => verifier.checkCall('POST', path, authorization));
}

test('a signed call is taken once, with its body and no other', () => {
  const clock = manualClock();
  const verifier = createClusterVerifier({ current: old, previous: null }, clock);
  const authorization = signed(old, clock);
  const fits = verifier.checkCall('POST', path, authorization);
  assert.equal(fits(body), true);
  assert.equal(fits(Buffer.from('{"a":2}')), false);
  assert.equal(verdict(verifier, authorization), 'invalid_cluster_signature', 'a replay was taken');
});

test('a signature holds for its method, path, time, nonce and digest only', () => {
  const clock = manualClock();
  const verifier = createClusterVerifier({ current: old, previous: null }, clock);
  const refused = 'invalid_cluster_signature';
  const fresh = (): string => signed(old, clock);
  assert.equal(
    codeOf(() => verifier.checkCall('PUT', path, fresh())),
    refused,
  );
  assert.equal(
    codeOf(() => verifier.checkCall('POST', `${path}x`, fresh())),
    refused,
  );
  assert.equal(verdict(verifier, fresh().replace(/time=(\d+)\d/, 'time=$19')), refused);
  for (const part of ['nonce', 'digest', 'mac']) {
    const changed = fresh().replace(
      new RegExp(`${part}=(.)`),
      (_all, first: string) => `${part}=${first === 'A' ? 'B' : 'A'}`,
    );
    assert.equal(verdict(verifier, changed), refused, part);
  }
  for (const text of [undefined, '', 'Bearer x', 'Stoa-Cluster', `${fresh()} `]) {
    assert.equal(verdict(verifier, text), refused, text);
  }
  assert.equal(verdict(verifier, fresh()), 'accepted');
});

test('a call is taken within 30 s of its time, early or late, and not beyond', () => {
  for (const [offMs, expected] of [
    [toleranceMs, 'accepted'],
    [toleranceMs + 1, 'invalid_cluster_signature'],
  ] as const) {
    const caller = manualClock();
    const late = manualClock();
    late.advance(offMs);
    assert.equal(
      verdict(createClusterVerifier({ current: old, previous: null }, late), signed(old, caller)),
      expected,
    );
    const early = manualClock();
    const ahead = manualClock();
    ahead.advance(offMs);
    assert.equal(
      verdict(createClusterVerifier({ current: old, previous: null }, early), signed(old, ahead)),
      expected,
    );
  }
});

test('a replay is refused for as long as the signature would hold, from a caller whose clock is ahead, too', () => {
  const clock = manualClock();
  const ahead = manualClock();
  ahead.advance(toleranceMs);
  const verifier = createClusterVerifier({ current: old, previous: null }, clock);
  const authorization = signed(old, ahead);
  assert.equal(verdict(verifier, authorization), 'accepted');
  for (let step = 0; step < 70; step++) {
    clock.advance(1_000);
    assert.equal(verdict(verifier, authorization), 'invalid_cluster_signature', `${step + 1} s later`);
  }
});

test('at any step of a rotation every process takes what every other one signs', () => {
  const clock = manualClock();
  const steps = [
    { current: old, previous: null },
    { current: old, previous: next },
    { current: next, previous: old },
    { current: next, previous: null },
  ];
  for (const [index, secrets] of steps.entries()) {
    for (const other of steps.slice(Math.max(0, index - 1), index + 2)) {
      const authorization = createClusterSigner(secrets, clock).signCall('POST', path, body);
      assert.equal(verdict(createClusterVerifier(other, clock), authorization), 'accepted');
    }
  }
  const verifier = createClusterVerifier({ current: next, previous: null }, clock);
  assert.equal(
    verdict(verifier, signed(old, clock)),
    'invalid_cluster_signature',
    'the old one is still taken',
  );
});

test('nonces are bounded: when they are full new calls are refused, and none is forgotten early', () => {
  const clock = manualClock();
  const verifier = createClusterVerifier({ current: old, previous: null }, clock, 2);
  const first = signed(old, clock);
  assert.equal(verdict(verifier, first), 'accepted');
  assert.equal(verdict(verifier, signed(old, clock)), 'accepted');
  assert.equal(verdict(verifier, signed(old, clock)), 'overloaded');
  assert.equal(verdict(verifier, first), 'invalid_cluster_signature');
  assert.equal(verdict(verifier, signed(next, clock)), 'invalid_cluster_signature');
  clock.advance(toleranceMs + 1);
  assert.equal(verdict(verifier, signed(old, clock)), 'accepted');
});

test('a forwarded request keeps the id and address that the gateway signed, once', () => {
  const clock = manualClock();
  const secrets = { current: old, previous: null };
  const requestId = newRequestId();
  const request = { method: 'GET', path: '/v1/fixture?a=1', requestId, clientAddress: '2001:db8::1' };
  const header = createClusterSigner(secrets, clock).signForwarded(request);
  const verifier = createClusterVerifier(secrets, clock);
  assert.equal(verifier.readForwarded('GET', '/v1/fixture?a=2', header), null);
  assert.equal(verifier.readForwarded('GET', request.path, header.replace(/from=./, 'from=B')), null);
  assert.equal(verifier.readForwarded('GET', request.path, undefined), null);
  assert.deepEqual(verifier.readForwarded('GET', request.path, header), {
    requestId,
    clientAddress: '2001:db8::1',
  });
  assert.equal(verifier.readForwarded('GET', request.path, header), null, 'a replay was taken');
});
