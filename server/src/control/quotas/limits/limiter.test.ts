import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { KeyLimitRule, TenantLimitRule } from '@stoa/contracts';
import fc from 'fast-check';
import { type Limits, memoryLimits } from '#cache';
import { AppError, asTenantId, type ManualClock, manualClock, type TenantPrincipal } from '#kernel';
import { createLimitsBook } from './book.ts';
import { createLimiter, type LimitedRequest, type Limiter, type LimitVerdict } from './limiter.ts';
import { shareOf } from './share.ts';
import { sourceOf } from './source.ts';
import { createUnknownKeyGuard } from './unknown-keys.ts';

const tenantId = asTenantId(randomUUID());
const nothing = { add: () => undefined };
const counters = { refusals: nothing, withoutStore: nothing, lostCorrections: nothing, unknownKeys: nothing };

function rule(changes: Partial<TenantLimitRule> = {}): TenantLimitRule {
  return {
    meter: 'requests',
    per: 'tenant',
    route_class: 'any',
    limit: 10,
    period_s: 60,
    burst: 2,
    ...changes,
  };
}

interface SetUp {
  readonly limiter: Limiter;
  readonly clock: ManualClock;
}

interface Rules {
  readonly tenant?: readonly TenantLimitRule[];
  readonly key?: readonly KeyLimitRule[];
  readonly defaults?: readonly TenantLimitRule[];
  readonly processes?: number;
  readonly limits?: Limits;
}

const limitedKey = '00limitedkey';

function setUp({ tenant, key, defaults = [], processes = 1, limits }: Rules): SetUp {
  const clock = manualClock();
  const book = createLimitsBook(defaults);
  const put = (keyId: string, rules: unknown): void =>
    book.put({ tenant_id: tenantId, key_id: keyId, rules: JSON.stringify(rules), version: 1n });
  if (key) put(limitedKey, key);
  if (tenant) put('', tenant);
  const ownLimits = memoryLimits(clock);
  const shared = limits ?? memoryLimits(clock);
  return {
    clock,
    limiter: createLimiter({ book, limits: shared, ownLimits, processCount: () => processes, counters }),
  };
}

function request(changes: Partial<LimitedRequest> & { by?: Partial<TenantPrincipal> } = {}): LimitedRequest {
  const { by, ...rest } = changes;
  const principal: TenantPrincipal = {
    kind: 'tenant',
    tenantId,
    keyId: '00abcdefghij',
    role: 'developer',
    scopes: null,
    projectId: null,
    tags: {},
    standing: { refusal: null },
    ...by,
  };
  return { principal, routeClass: 'chat', clientAddress: '192.0.2.1', tokens: 0, tokensAsked: 0, ...rest };
}

/** At once, from memory; null where no limit applies. */
function check(limiter: Limiter, asked: LimitedRequest): LimitVerdict | null {
  const verdict = limiter.check(asked);
  assert.ok(!(verdict instanceof Promise));
  return verdict;
}

function refusalOf(limiter: Limiter, asked: LimitedRequest): AppError | null {
  return check(limiter, asked)?.refusal ?? null;
}

test('who has no limit is let through at once, without fields', () => {
  const { limiter } = setUp({});
  assert.equal(limiter.check(request()), null);
  const others = setUp({ tenant: [rule({ route_class: 'embeddings' })] });
  assert.equal(others.limiter.check(request()), null);
});

test('a refused request takes from none of its limits', () => {
  const { limiter, clock } = setUp({
    tenant: [rule({ limit: 60, burst: 10 }), rule({ per: 'key', limit: 1, burst: 1 })],
  });
  assert.equal(refusalOf(limiter, request()), null);
  for (let index = 0; index < 20; index++) {
    const refused = check(limiter, request());
    assert.equal(refused?.refusal?.code, 'rate_limit_exceeded');
    assert.equal(refused?.fields?.state.split(',')[0], '"tenant-any-requests-60s";r=9;t=1');
  }
  assert.equal(refusalOf(limiter, request({ by: { keyId: '00another000' } })), null);
  clock.advance(60_000);
  assert.equal(refusalOf(limiter, request()), null);
});

test('the fields name each policy and how it stands; Retry-After is when all would let the request pass', () => {
  const { limiter } = setUp({
    tenant: [rule({ limit: 10, burst: 2 }), rule({ meter: 'tokens', limit: 600, burst: 100 })],
  });
  const asked = request({ tokens: 60, tokensAsked: 60 });
  assert.deepEqual(check(limiter, asked)?.fields, {
    policy: '"tenant-any-requests-60s";q=10;w=60, "tenant-any-tokens-60s";q=600;w=60;qu="tokens"',
    state: '"tenant-any-requests-60s";r=1;t=6, "tenant-any-tokens-60s";r=40;t=6',
  });
  const refused = check(limiter, asked);
  assert.equal(refused?.refusal?.code, 'rate_limit_exceeded');
  assert.equal(refused?.refusal?.retryAfterMs, 2_000);
  assert.match(refused?.refusal?.publicMessage ?? '', /tenant-any-tokens-60s of 600 tokens in 60 s/);
});

test('limits count apart for keys, members and addresses; an IPv6 address counts by its /64', () => {
  const per = (subject: TenantLimitRule['per']): Limiter =>
    setUp({ tenant: [rule({ per: subject, burst: 1 })] }).limiter;
  const pairs: [Limiter, Partial<LimitedRequest> & { by?: Partial<TenantPrincipal> }, boolean][] = [
    [per('key'), { by: { keyId: '00another000' } }, true],
    [per('key'), {}, false],
    [per('tenant'), { by: { keyId: '00another000' } }, false],
    [per('ip'), { clientAddress: '192.0.2.2' }, true],
    [per('ip'), { by: { keyId: '00another000' } }, false],
  ];
  for (const [limiter, second, passes] of pairs) {
    assert.equal(refusalOf(limiter, request()), null);
    assert.equal(refusalOf(limiter, request(second)) === null, passes, JSON.stringify(second));
  }
  const v6 = per('ip');
  assert.equal(refusalOf(v6, request({ clientAddress: '2001:db8:0:1::1' })), null);
  assert.notEqual(refusalOf(v6, request({ clientAddress: '2001:db8:0:1:ffff::9' })), null);
  assert.equal(refusalOf(v6, request({ clientAddress: '2001:db8:0:2::1' })), null);
  const members = per('member');
  const of = (memberId: string) => request({ by: { memberId } });
  assert.equal(refusalOf(members, of('a')), null);
  assert.notEqual(refusalOf(members, of('a')), null);
  assert.equal(refusalOf(members, of('b')), null);
  assert.equal(members.check(request()), null, 'whoever is no member has no limit of members');
});

test('a class of routes has its own limits, and shares those of any', () => {
  const { limiter } = setUp({
    tenant: [rule({ route_class: 'write', burst: 1 }), rule({ burst: 3, period_s: 3600 })],
  });
  const of = (routeClass: LimitedRequest['routeClass']) => refusalOf(limiter, request({ routeClass }));
  assert.equal(of('write'), null);
  assert.notEqual(of('write'), null);
  assert.equal(of('read'), null);
  assert.equal(of('chat'), null);
  assert.notEqual(of('auth'), null, 'the third of three passed already');
});

test("a key's own limit never widens its tenant's, and binds no other key", () => {
  const wide = { meter: 'requests', route_class: 'any', limit: 1000, period_s: 1, burst: 1000 } as const;
  const narrow = { ...wide, limit: 1, period_s: 60, burst: 1 };
  for (const [key, passes] of [
    [[wide], 2],
    [[narrow], 1],
    [[], 2],
  ] as const) {
    const { limiter } = setUp({ tenant: [rule({ burst: 2 })], key });
    const passed = [1, 2, 3].filter(
      () => refusalOf(limiter, request({ by: { keyId: limitedKey } })) === null,
    );
    assert.equal(passed.length, passes);
  }
  const { limiter } = setUp({ tenant: [rule({ burst: 9 })], key: [narrow] });
  assert.equal(refusalOf(limiter, request({ by: { keyId: limitedKey } })), null);
  assert.notEqual(refusalOf(limiter, request({ by: { keyId: limitedKey } })), null);
  assert.equal(refusalOf(limiter, request()), null);
});

test("what the operator set takes the place of the defaults, an empty list among it; a key's limits hold beside them", () => {
  const defaults = [rule({ burst: 1 })];
  assert.notEqual(setUp({ defaults }).limiter.check(request()), null);
  assert.equal(setUp({ defaults, tenant: [] }).limiter.check(request()), null);
  const key = [{ meter: 'requests', route_class: 'chat', limit: 5, period_s: 1, burst: 5 }] as const;
  const verdict = check(setUp({ defaults, key }).limiter, request({ by: { keyId: limitedKey } }));
  assert.match(verdict?.fields?.policy ?? '', /^"tenant-any-requests-60s".*"own-key-chat-requests-1s"/);
});

test('tokens take what is expected and are corrected by what was used', () => {
  const { limiter } = setUp({ tenant: [rule({ meter: 'tokens', limit: 100, burst: 100 })] });
  const first = check(limiter, request({ tokens: 80, tokensAsked: 10 }));
  assert.match(first?.fields?.state ?? '', /;r=20;/);
  first?.settle?.(15);
  assert.match(check(limiter, request({ tokens: 1, tokensAsked: 1 }))?.fields?.state ?? '', /;r=84;/);
});

test('an output that nobody limited never makes a request too large; one that was asked for is refused for good', () => {
  const { limiter } = setUp({ tenant: [rule({ meter: 'tokens', limit: 100, burst: 100 })] });
  const refused = refusalOf(limiter, request({ tokens: 4_000, tokensAsked: 101 }));
  assert.equal(refused?.code, 'request_exceeds_limit');
  assert.equal(refused?.retryAfterMs, null);
  assert.equal(refusalOf(limiter, request({ tokens: 4_000, tokensAsked: 100 })), null);
});

/** A shared store that is away. */
const awayLimits: Limits = {
  take: () => Promise.reject(new AppError('cache_unavailable', 'away')),
  takeAll: () => Promise.reject(new AppError('cache_unavailable', 'away')),
  correct: () => Promise.reject(new AppError('cache_unavailable', 'away')),
};

test('while the store is away four processes together let no more pass than the limit', async () => {
  const tenant = [rule({ limit: 40, burst: 8 })];
  let passed = 0;
  for (let index = 0; index < 4; index++) {
    const { limiter, clock } = setUp({ tenant, processes: 4, limits: awayLimits });
    for (let second = 0; second <= 60; second++) {
      for (let call = 0; call < 3; call++)
        if ((await limiter.check(request()))?.refusal === null) passed += 1;
      clock.advance(1_000);
    }
  }
  assert.equal(passed, 48, 'the burst of 8 and the 40 of a minute');
});

test('while the store is away the making of tokens is refused where it has a limit, all else goes on', async () => {
  const { limiter } = setUp({ tenant: [rule({ burst: 100 })], processes: 2, limits: awayLimits });
  for (const routeClass of ['chat', 'embeddings', 'read', 'write'] as const) {
    const verdict = await limiter.check(request({ routeClass }));
    assert.equal(verdict?.refusal, null, routeClass);
    assert.match(verdict?.fields?.state ?? '', /^"tenant-any-requests-60s";r=4\d;/);
  }
  const refusal = (await limiter.check(request({ routeClass: 'auth' })))?.refusal;
  assert.equal(refusal?.code, 'limits_unavailable');
  assert.equal(refusal?.retryAfterMs, 1_000);
});

test('the shares of a limit are together never more than it, except for bursts smaller than the number of processes', () => {
  const rules = fc.record({
    limit: fc.integer({ min: 1, max: 1_000_000 }),
    periodMs: fc.integer({ min: 1, max: 86_400 }).map((seconds) => seconds * 1000),
    burst: fc.integer({ min: 1, max: 10_000 }),
  });
  const property = fc.property(rules, fc.integer({ min: 1, max: 64 }), (one, processes) => {
    const share = shareOf({ tenantId, key: 'k', ...one, cost: 1 }, processes);
    if (one.burst >= processes) assert.ok(share.burst * processes <= one.burst);
    else assert.equal(share.burst, 1);
    const together = BigInt(share.limit) * BigInt(processes) * BigInt(one.periodMs);
    if (one.limit >= processes) assert.ok(together <= BigInt(one.limit) * BigInt(share.periodMs));
  });
  fc.assert(property);
});

test('the source of an address is its text, of IPv6 its first 64 bits', () => {
  for (const [address, source] of [
    ['192.0.2.1', '192.0.2.1'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
    ['', 'unknown'],
  ] as const)
    assert.equal(sourceOf(address), source);
});

test('wrong credentials of one address are looked up once a second beyond the limit, right ones cost it nothing', async () => {
  const clock = manualClock();
  const turns: (() => void)[] = [];
  const held = { waiting: 0, refused: 0 };
  const deps = {
    ownLimits: memoryLimits(clock),
    processCount: () => 1,
    onWaiting: () => (held.waiting += 1),
    onRefused: () => (held.refused += 1),
    later: (_ms: number, work: () => void) => void turns.push(work),
  };
  const guard = createUnknownKeyGuard(deps, 10);
  const address = '192.0.2.1';
  const isAtOnce = (from: string | null): boolean => !(guard.admit(from) instanceof Promise);
  for (let index = 0; index < 100; index++) {
    const giveBack = guard.admit(address);
    assert.ok(!(giveBack instanceof Promise));
    giveBack();
  }
  for (let index = 0; index < 10; index++) assert.ok(isAtOnce(address));
  const waiting = Array.from({ length: 500 }, () => guard.admit(address));
  assert.ok(waiting.every((one) => one instanceof Promise));
  assert.throws(
    () => guard.admit(address),
    (error) =>
      error instanceof AppError && error.code === 'rate_limit_exceeded' && error.retryAfterMs === 1_000,
  );
  assert.deepEqual(held, { waiting: 500, refused: 1 });
  assert.ok(isAtOnce('192.0.2.2'), 'another address');
  assert.ok(isAtOnce(null), 'the process itself');
  assert.equal(turns.length, 1, 'one turn for all');
  turns[0]?.();
  await Promise.all(waiting);
  assert.equal(isAtOnce(address), false);
  assert.equal(turns.length, 2);
  clock.advance(6_000);
  assert.ok(isAtOnce(address), 'what time has paid off');
});
