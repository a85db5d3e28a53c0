import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createClusterSigner, serveApi } from '#calls';
import { createOutboundClient } from '#http';
import { silentLogger, systemClock } from '#kernel';
import { createFixtureService, fixtureApi, startReceiver, testCall, testSecrets } from '#testing';
import { createBind } from './bind.ts';

const outbound = createOutboundClient();
after(() => outbound.close());
const signer = createClusterSigner(testSecrets, systemClock);
const deps = { clock: systemClock, logger: silentLogger, outbound, signer, localCalls: 'plain' } as const;

test('a service is called the same way, here and elsewhere', async () => {
  const { service, state } = createFixtureService();
  const receiver = await startReceiver([serveApi(fixtureApi, service)]);
  try {
    const bind = createBind(deps);
    const here = bind(fixtureApi, { local: service });
    const elsewhere = bind(fixtureApi, { url: receiver.origin });
    assert.equal(await here.count(undefined, testCall()), 1);
    assert.equal(await elsewhere.count(undefined, testCall()), 2);
    assert.equal(state.calls, 2);
  } finally {
    await receiver.close();
  }
});

test('a plain local call passes values as they are; the test mode copies them and makes idempotent calls twice', async () => {
  const { service } = createFixtureService();
  const value = { amount: 1n, at: new Date(5), bytes: Uint8Array.of(1), slots: [undefined] };
  const plain = createBind(deps)(fixtureApi, { local: service });
  assert.equal(await plain.echo(value, testCall()), value);
  const coded = createBind({ ...deps, localCalls: 'codec' })(fixtureApi, { local: service });
  const answer = await coded.echo(value, testCall());
  assert.notEqual(answer, value);
  assert.deepStrictEqual(answer, value);
});

test('a method that is declared idempotent and is not fails in the test mode', async () => {
  const { service } = createFixtureService();
  let sum = 0n;
  const forgetful = { ...service, add: async () => ({ sum: ++sum }) };
  const bound = createBind({ ...deps, localCalls: 'codec' })(fixtureApi, { local: forgetful });
  await assert.rejects(bound.add({ amount: 1n }, testCall()), (error: Error) => {
    assert.match(String(error.cause), /fixture\.add is declared idempotent/);
    return true;
  });
});

test('a service whose role is nowhere answers that it is away; one elsewhere needs the cluster secret', async () => {
  const bind = createBind({ ...deps, signer: null });
  await assert.rejects(bind(fixtureApi, { url: [] }).count(undefined, testCall()), {
    code: 'role_unavailable',
  });
  assert.throws(() => bind(fixtureApi, { url: 'http://127.0.0.1:1' }), RangeError);
});
