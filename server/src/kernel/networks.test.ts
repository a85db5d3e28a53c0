import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNetworkSet, networkText, plainAddress, readAddress, readNetwork } from './networks.ts';

function setOf(...texts: string[]) {
  return createNetworkSet(
    texts.map((text) => {
      const network = readNetwork(text);
      assert.ok(network, text);
      return network;
    }),
  );
}

test('a network is read to its first address and its prefix, and says whether it named another', () => {
  const cases: [string, string, boolean][] = [
    ['192.0.2.1', '192.0.2.1/32', false],
    ['10.0.0.0/8', '10.0.0.0/8', false],
    ['10.1.2.3/8', '10.0.0.0/8', true],
    ['192.0.2.129/25', '192.0.2.128/25', true],
    ['0.0.0.0/0', '0.0.0.0/0', false],
    ['2001:DB8:0:0::/32', '2001:db8::/32', false],
    ['2001:db8::1', '2001:db8::1/128', false],
    ['2001:db8:ffff::/33', '2001:db8:8000::/33', true],
    ['::/0', '::/0', false],
    ['1::', '1::/128', false],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8/128', false],
    ['64:ff9b::192.0.2.1', '64:ff9b::c000:201/128', false],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8', false],
    ['::ffff:a00:1', '10.0.0.1/32', false],
    ['::ffff:0:0/96', '0.0.0.0/0', false],
  ];
  for (const [text, expected, hasHostBits] of cases) {
    const network = readNetwork(text);
    assert.ok(network, text);
    assert.deepEqual([networkText(network), network.hasHostBits], [expected, hasHostBits], text);
    assert.equal(networkText(readNetwork(expected) ?? network), expected);
  }
});

test('what is no network is none', () => {
  for (const text of [
    '',
    '/',
    '/8',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0/8',
    '010.0.0.1',
    ' 10.0.0.1',
    '10.0.0.1 ',
    '0x0a000001',
    '2001:db8::/129',
    '2001:db8::1::2',
    'fe80::1%eth0',
    'fe80::%eth0/64',
    '[::1]',
    'localhost',
    '１０.0.0.1',
  ])
    assert.equal(readNetwork(text), null, text);
});

test('a set has the addresses of its networks and no others, and no family stands for the other', () => {
  const set = setOf('10.0.0.0/8', '192.0.2.7', '2001:db8::/32');
  for (const address of ['10.0.0.0', '10.255.255.255', '192.0.2.7', '2001:db8::', '2001:db8:ffff::1'])
    assert.ok(set.has(address), address);
  for (const address of [
    '9.255.255.255',
    '11.0.0.0',
    '192.0.2.6',
    '2001:db9::',
    '::1',
    '',
    'x',
    '10.0.0.1%a',
  ])
    assert.equal(set.has(address), false, address);
  assert.equal(setOf('::/0').has('192.0.2.1'), false, 'every IPv6 address is no IPv4 address');
  assert.equal(setOf('0.0.0.0/0').has('2001:db8::1'), false);
  assert.ok(setOf('0.0.0.0/0').has('192.0.2.1') && setOf('::/0').has('2001:db8::1'));
  assert.ok(setOf('::ffff:192.0.2.0/120').has('192.0.2.1'));
  assert.equal(createNetworkSet([]).has('192.0.2.1'), false);
});

test('a random address lies in a random network exactly where its first bits say so', () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * below);
  };
  for (let round = 0; round < 2000; round++) {
    const isV4 = next(2) === 0;
    const size = isV4 ? 4 : 16;
    // Few different bytes, so that addresses often share their first bits; the first byte keeps clear of mapped ones.
    const bytes = () =>
      Array.from({ length: size }, (_, index) => (index === 0 ? 32 + next(2) : next(3) * 127));
    const text = (values: readonly number[]) =>
      isV4
        ? values.join('.')
        : Array.from({ length: 8 }, (_, index) =>
            (((values[index * 2] ?? 0) << 8) | (values[index * 2 + 1] ?? 0)).toString(16),
          ).join(':');
    const bits = (values: readonly number[]) =>
      values.map((value) => value.toString(2).padStart(8, '0')).join('');
    const [one, other] = [bytes(), bytes()];
    const prefix = next(size * 8 + 1);
    const expected = bits(one).slice(0, prefix) === bits(other).slice(0, prefix);
    assert.equal(
      setOf(`${text(one)}/${prefix}`).has(text(other)),
      expected,
      `seed ${seed}: ${text(other)} in ${text(one)}/${prefix}`,
    );
  }
});

test('an address has one text', () => {
  assert.equal(readAddress('2001:DB8:0:0:0::1'), '2001:db8::1');
  assert.equal(readAddress('::FFFF:C000:0201'), '192.0.2.1');
  assert.equal(readAddress('192.0.2.1'), '192.0.2.1');
  assert.equal(readAddress('fe80::1%eth0'), null);
  assert.equal(readAddress('x'), null);
  assert.equal(plainAddress('::ffff:192.0.2.1'), '192.0.2.1');
  assert.equal(plainAddress('fe80::1%eth0'), 'fe80::1');
  assert.equal(plainAddress('::ffff:0:1'), '::ffff:0:1');
});
