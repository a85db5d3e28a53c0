import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asTenantId, newUuid, type TenantPrincipal } from '#kernel';
import type { Target } from '#models';
import { createDecider } from './decider.ts';

const principal: TenantPrincipal = {
  kind: 'tenant',
  tenantId: asTenantId(newUuid()),
  keyId: '00abcdefghij',
  role: 'admin',
  scopes: null,
  projectId: null,
  tags: {},
  standing: { refusal: null },
};

function target(id: string): Target {
  return {
    id,
    kind: 'chat',
    model: id,
    provider: {
      id: 'p',
      kind: 'scripted',
      baseUrl: '',
      credential: null,
      headers: {},
      credentialId: 'c',
      maxConcurrency: 1,
    },
    isGenerative: true,
    contextTokens: null,
    maxOutputTokens: null,
    deadlines: { wholeMs: 1, firstFrameMs: 1, betweenFramesMs: 1 },
    createdAt: 0,
    ownedBy: 'test',
    source: 'built-in',
    priceKey: { provider: null, model: id },
  };
}

const [a, b, c] = [target('a'), target('b'), target('c')];

test('a named model is a decision with one arm, healthy or not', () => {
  const decision = createDecider().decide({
    principal,
    requestedModel: 'a',
    candidates: [a],
    isHealthy: () => false,
  });
  assert.deepEqual(decision, { target: a, probability: 1, reason: 'named', fallbacks: [] });
});

test('auto takes the first healthy target in order and falls back to the others in order', () => {
  const decision = createDecider().decide({
    principal,
    requestedModel: 'auto',
    candidates: [a, b, c],
    isHealthy: (one) => one !== a,
  });
  assert.deepEqual(decision, { target: b, probability: 1, reason: 'first_healthy', fallbacks: [a, c] });
});

test('auto still tries when every target is unhealthy', () => {
  const decision = createDecider().decide({
    principal,
    requestedModel: 'auto',
    candidates: [a, b],
    isHealthy: () => false,
  });
  assert.deepEqual(decision, { target: a, probability: 1, reason: 'all_unhealthy', fallbacks: [b] });
});

test('without a candidate there is no decision', () => {
  assert.equal(
    createDecider().decide({ principal, requestedModel: 'auto', candidates: [], isHealthy: () => true }),
    null,
  );
});
