/**
 * What rate limits cost a request, in microseconds of CPU: `node server/src/control/quotas/limits/testing/measure-limiter.ts`.
 * The least of the rounds is what to look at on a busy machine: what other processes do only ever adds.
 */

import { randomUUID } from 'node:crypto';
import type { TenantLimitRule } from '@stoa/contracts';
import { memoryLimits } from '#cache';
import { asTenantId, systemClock } from '#kernel';
import { createLimitsBook } from '../book.ts';
import { createLimiter, type LimitedRequest, type Limiter } from '../limiter.ts';

const rounds = 7;
const callsPerRound = 200_000;

const nothing = { add: () => undefined };
const asked: LimitedRequest = {
  principal: {
    kind: 'tenant',
    tenantId: asTenantId(randomUUID()),
    keyId: '00abcdefghij',
    role: 'developer',
    scopes: null,
    projectId: null,
    tags: {},
    standing: { refusal: null },
  },
  routeClass: 'chat',
  clientAddress: '192.0.2.1',
  tokens: 300,
  tokensAsked: 300,
};

function limiterWith(rules: readonly TenantLimitRule[]): Limiter {
  return createLimiter({
    book: createLimitsBook(rules),
    limits: memoryLimits(systemClock),
    ownLimits: memoryLimits(systemClock),
    processCount: () => 1,
    counters: { refusals: nothing, withoutStore: nothing, lostCorrections: nothing, unknownKeys: nothing },
  });
}

function wide(meter: TenantLimitRule['meter']): TenantLimitRule {
  return {
    meter,
    per: 'tenant',
    route_class: 'any',
    limit: 1_000_000_000,
    period_s: 1,
    burst: 1_000_000_000,
  };
}

function measure(name: string, rules: readonly TenantLimitRule[]): void {
  const limiter = limiterWith(rules);
  let leastUs = Infinity;
  for (let round = 0; round < rounds; round += 1) {
    const before = process.cpuUsage();
    for (let call = 0; call < callsPerRound; call += 1) {
      const verdict = limiter.check(asked);
      if (verdict instanceof Promise || verdict?.refusal) throw new Error('it was not let through at once');
      verdict?.settle?.(asked.tokens);
    }
    const { user, system } = process.cpuUsage(before);
    leastUs = Math.min(leastUs, (user + system) / callsPerRound);
  }
  console.log(`${name}: ${leastUs.toFixed(2)} us`);
}

measure('no limit', []);
measure('a limit of requests', [wide('requests')]);
measure('one of requests and one of tokens, corrected', [wide('requests'), wide('tokens')]);
