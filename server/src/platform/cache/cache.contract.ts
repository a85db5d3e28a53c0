/** What every adapter of the cache guarantees, as tests. */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { asTenantId } from '#kernel';
import type { Cache, Owner } from './index.ts';

export interface CacheSubject {
  readonly cache: Cache;
  /** Lets time pass until the condition holds; fails after a while. */
  until(holds: () => Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

const hour = 3_600_000;
const first = asTenantId(randomUUID());
const second = asTenantId(randomUUID());
/** For the compiler: what a caller could hand over that went past the types. */
const passesAsOwner = (text: string): text is Owner => text !== '';

function describeValues(subject: () => CacheSubject): void {
  test('what was set is read until it is set anew or deleted', async () => {
    const at = { tenantId: first, key: 'a' };
    assert.equal(await subject().cache.get(at), null);
    assert.equal(await subject().cache.set({ ...at, value: 'one', ttlMs: hour }), true);
    assert.equal(await subject().cache.get(at), 'one');
    await subject().cache.set({ ...at, value: 'zwei \u{1F600}\0', ttlMs: hour });
    assert.equal(await subject().cache.get(at), 'zwei \u{1F600}\0');
    await subject().cache.delete(at);
    assert.equal(await subject().cache.get(at), null);
  });

  test('an empty value is a value', async () => {
    const at = { tenantId: first, key: 'empty' };
    await subject().cache.set({ ...at, value: '', ttlMs: hour });
    assert.equal(await subject().cache.get(at), '');
  });

  test('a value is gone after its time', async () => {
    const at = { tenantId: first, key: 'short' };
    await subject().cache.set({ ...at, value: 'x', ttlMs: 60 });
    assert.equal(await subject().cache.get(at), 'x');
    await subject().until(async () => (await subject().cache.get(at)) === null);
  });
}

function describeOwners(subject: () => CacheSubject): void {
  test("one tenant's value is never read under another, whatever the key", async () => {
    await subject().cache.set({ tenantId: first, key: 'k', value: 'first', ttlMs: hour });
    for (const key of ['k', `${first}:k`, `:${first}:k`]) {
      assert.equal(await subject().cache.get({ tenantId: second, key }), null);
      assert.equal(await subject().cache.get({ tenantId: 'platform', key }), null);
    }
    for (const text of ['x', `${first}:k`, 'platform:']) {
      assert.ok(passesAsOwner(text));
      await assert.rejects(async () => subject().cache.get({ tenantId: text, key: 'k' }), RangeError);
    }
  });

  test('deleting a tenant takes all of its values and none of others', async () => {
    for (const tenantId of [first, second]) {
      for (let index = 0; index < 20; index++)
        await subject().cache.set({ tenantId, key: `many ${index}`, value: 'x', ttlMs: hour });
    }
    await subject().cache.deleteTenant(first);
    for (let index = 0; index < 20; index++) {
      assert.equal(await subject().cache.get({ tenantId: first, key: `many ${index}` }), null);
      assert.equal(await subject().cache.get({ tenantId: second, key: `many ${index}` }), 'x');
    }
    await subject().cache.set({ tenantId: first, key: 'many 0', value: 'new', ttlMs: hour });
    assert.equal(await subject().cache.get({ tenantId: first, key: 'many 0' }), 'new');
    assert.equal(await subject().cache.get({ tenantId: first, key: 'many 1' }), null);
  });
}

function describeBounds(subject: () => CacheSubject): void {
  test('a value over one MiB of UTF-8 is not stored, and the one before it is gone', async () => {
    const at = { tenantId: first, key: 'large' };
    const most = 'x'.repeat(1024 * 1024);
    assert.equal(await subject().cache.set({ ...at, value: most, ttlMs: hour }), true);
    assert.equal(await subject().cache.get(at), most);
    assert.equal(await subject().cache.set({ ...at, value: `${most.slice(1)}\u00e9`, ttlMs: hour }), false);
    assert.equal(await subject().cache.get(at), null);
    assert.equal(
      (await subject().cache.getOrLoad({ ...at, ttlMs: hour }, async () => `${most}y`)).length,
      most.length + 1,
    );
    assert.equal(await subject().cache.get(at), null);
  });

  test('keys, times and texts that cannot be kept are refused', async () => {
    const at = { tenantId: first, key: 'a', value: 'x', ttlMs: hour };
    for (const wrong of [{ key: '' }, { key: 'k'.repeat(257) }, { key: '\ud800' }, { value: '\udc00' }])
      await assert.rejects(async () => subject().cache.set({ ...at, ...wrong }), RangeError);
    for (const ttlMs of [0, -1, 1.5, Number.NaN, Infinity, 86_400_001])
      await assert.rejects(async () => subject().cache.set({ ...at, ttlMs }), RangeError);
  });
}

function describeLoads(subject: () => CacheSubject): void {
  test('concurrent loads of one key are one load, and its value is kept', async () => {
    const at = { tenantId: first, key: 'loaded', ttlMs: hour };
    let loads = 0;
    const load = async (): Promise<string> => `load ${++loads}`;
    const answers = await Promise.all(Array.from({ length: 50 }, () => subject().cache.getOrLoad(at, load)));
    assert.deepEqual([new Set(answers), loads], [new Set(['load 1']), 1]);
    assert.equal(await subject().cache.getOrLoad(at, load), 'load 1');
    const other = await subject().cache.getOrLoad({ ...at, tenantId: second }, load);
    assert.equal(other, 'load 2');
  });

  test('a failed load fails all who wait for it and is tried again by the next', async () => {
    const at = { tenantId: first, key: 'failing', ttlMs: hour };
    const failing = async (): Promise<string> => {
      throw new Error('no luck');
    };
    const results = await Promise.allSettled([
      subject().cache.getOrLoad(at, failing),
      subject().cache.getOrLoad(at, failing),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ['rejected', 'rejected'],
    );
    assert.equal(await subject().cache.getOrLoad(at, async () => 'luck'), 'luck');
  });

  for (const deletion of ['delete', 'deleteTenant'] as const) {
    test(`what is deleted by ${deletion} while a load runs is not brought back by it`, async () => {
      const at = { tenantId: first, key: `deleted by ${deletion}` };
      const started = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      const loading = subject().cache.getOrLoad({ ...at, ttlMs: hour }, async () => {
        started.resolve();
        await goOn.promise;
        return 'old';
      });
      await started.promise;
      if (deletion === 'delete') await subject().cache.delete(at);
      else await subject().cache.deleteTenant(first);
      const next = subject().cache.getOrLoad({ ...at, ttlMs: hour }, async () => 'new');
      assert.equal(await next, 'new');
      goOn.resolve();
      assert.equal(await loading, 'old');
      assert.notEqual(await subject().cache.get(at), 'old');
    });
  }
}

export function describeCacheContract(adapter: string, open: () => Promise<CacheSubject>): void {
  describe(`the cache, ${adapter}`, () => {
    let opened: CacheSubject;
    before(async () => {
      opened = await open();
    });
    after(() => opened.close());
    const subject = (): CacheSubject => opened;
    describeValues(subject);
    describeOwners(subject);
    describeBounds(subject);
    describeLoads(subject);
  });
}
