/** What every adapter of the leases guarantees, as tests. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Lease, Leases } from './index.ts';

export interface LeasesSubject {
  readonly leases: Leases;
  /** Another process's view of the same leases. */
  readonly others: Leases;
  /** Lets time pass until the condition holds; fails after a while. */
  until(holds: () => Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

const minute = 60_000;

async function held(
  subject: LeasesSubject,
  name: string,
  holder: string,
  by: 'leases' | 'others' = 'leases',
  ttlMs = minute,
): Promise<Lease> {
  const lease = await subject[by].acquire({ name, holder, ttlMs });
  assert.ok(lease !== null, `${holder} gets ${name}`);
  return lease;
}

function describeHolding(subject: () => LeasesSubject): void {
  test('a lease has one holder, until it is released', async () => {
    const lease = await held(subject(), 'one', 'a');
    assert.deepEqual([lease.name, lease.holder], ['one', 'a']);
    assert.equal(await subject().others.acquire({ name: 'one', holder: 'b', ttlMs: minute }), null);
    assert.equal(await subject().leases.renew(lease, minute), true);
    assert.equal(await subject().leases.release(lease), true);
    const next = await held(subject(), 'one', 'b', 'others');
    assert.ok(next.fence > lease.fence);
  });

  test('of many who ask at once one gets it', async () => {
    const wanted = Array.from({ length: 20 }, (_, index) =>
      (index % 2 === 0 ? subject().leases : subject().others).acquire({
        name: 'many',
        holder: `h${index}`,
        ttlMs: minute,
      }),
    );
    assert.equal((await Promise.all(wanted)).filter((lease) => lease !== null).length, 1);
  });

  test('a lease that is not renewed ends, and its holder can neither renew nor release it', async () => {
    const lease = await held(subject(), 'short', 'a', 'leases', 60);
    let next: Lease | null = null;
    await subject().until(async () => {
      next = await subject().others.acquire({ name: 'short', holder: 'b', ttlMs: minute });
      return next !== null;
    });
    assert.equal(await subject().leases.renew(lease, minute), false);
    assert.equal(await subject().leases.release(lease), false);
    assert.equal(await subject().others.acquire({ name: 'short', holder: 'c', ttlMs: minute }), null);
  });

  test('a renewed lease lives by the new time', async () => {
    const lease = await held(subject(), 'renewed', 'a', 'leases', 60);
    assert.equal(await subject().leases.renew(lease, minute), true);
    // Another one, of the first's time, shows that this time is over.
    await held(subject(), 'witness', 'a', 'leases', 60);
    await subject().until(
      async () => (await subject().others.acquire({ name: 'witness', holder: 'b', ttlMs: minute })) !== null,
    );
    assert.equal(await subject().leases.renew(lease, minute), true);
  });
}

function describeFences(subject: () => LeasesSubject): void {
  test('the same holder gets it anew with a larger fence, and the old fence is no longer good', async () => {
    const lost = await held(subject(), 'again', 'a');
    const again = await held(subject(), 'again', 'a');
    assert.ok(again.fence > lost.fence);
    assert.equal(await subject().leases.renew(lost, minute), false);
    assert.equal(await subject().leases.release(lost), false);
    assert.equal(await subject().leases.renew(again, minute), true);
  });

  test('fences of a name only grow, and above what the caller knows', async () => {
    let last = 0;
    for (let round = 0; round < 50; round++) {
      const lease = await held(subject(), 'growing', `h${round}`, round % 2 === 0 ? 'leases' : 'others');
      assert.ok(lease.fence > last && Number.isSafeInteger(lease.fence));
      last = lease.fence;
      await subject().leases.release(lease);
    }
    const above = last + 3_600_000_000;
    const lease = await subject().leases.acquire({ name: 'growing', holder: 'h', ttlMs: minute, above });
    assert.equal(lease?.fence, above + 1);
  });

  test('times that are none are refused', async () => {
    for (const ttlMs of [0, 0.5, Infinity])
      await assert.rejects(
        async () => subject().leases.acquire({ name: 'n', holder: 'h', ttlMs }),
        RangeError,
      );
  });
}

export function describeLeasesContract(adapter: string, open: () => Promise<LeasesSubject>): void {
  describe(`leases, ${adapter}`, () => {
    let opened: LeasesSubject;
    before(async () => {
      opened = await open();
    });
    after(() => opened.close());
    describeHolding(() => opened);
    describeFences(() => opened);
  });
}
