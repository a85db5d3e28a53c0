import { deepEqual, equal } from 'node:assert/strict';
import { test } from 'node:test';
import { addressMeant, isPublicAddress } from './addresses.ts';

/** First and last address of each block of the registries, and the neighbours that lie outside of all of them. */
const refused = [
  ['0.0.0.0', '0.255.255.255'],
  ['10.0.0.0', '10.255.255.255'],
  ['100.64.0.0', '100.127.255.255'],
  ['127.0.0.0', '127.255.255.255'],
  ['168.63.129.16'],
  ['169.254.0.0', '169.254.255.255'],
  ['172.16.0.0', '172.31.255.255'],
  ['192.0.0.0', '192.0.0.255'],
  ['192.0.2.0', '192.0.2.255'],
  ['192.31.196.0', '192.31.196.255'],
  ['192.52.193.0', '192.52.193.255'],
  ['192.88.99.0', '192.88.99.255'],
  ['192.168.0.0', '192.168.255.255'],
  ['192.175.48.0', '192.175.48.255'],
  ['198.18.0.0', '198.19.255.255'],
  ['198.51.100.0', '198.51.100.255'],
  ['203.0.113.0', '203.0.113.255'],
  ['224.0.0.0', '255.255.255.255'],
  ['::', '::1', '::7f00:1', '::8.8.8.8', '::ffff:0:8.8.8.8', '1fff:ffff::1'],
  ['64:ff9b::127.0.0.1', '64:ff9b::10.1.2.3', '64:ff9b::a9fe:a9fe', '64:ff9b:0:0:0:1::1'],
  ['64:ff9b:1::', '64:ff9b:1:ffff:ffff:ffff:ffff:ffff'],
  ['100::', '100::ffff:ffff:ffff:ffff', '100:0:0:1::1'],
  ['2001::', '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff', '2001:0:7f00:1::', '2001:1::1', '2001:3::1'],
  ['2001:2::1', '2001:4:112::1', '2001:10::1', '2001:20::1', '2001:30::1'],
  ['2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff'],
  ['2002::', '2002:808:808::1', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ['2620:4f:8000::', '2620:4f:8000:ffff:ffff:ffff:ffff:ffff'],
  ['3fff::', '3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ['4000::', '5f00::1', 'fbff::1', 'fc00::', 'fd00:ec2::254', 'fd20:ce::254'],
  ['fe80::', 'fe80::1', 'febf::1', 'fec0::', 'feff::1', 'ff00::', 'ff02::1', 'ffff::'],
  ['::ffff:0.0.0.0', '::ffff:127.0.0.1', '::ffff:a9fe:a9fe', '0:0:0:0:0:ffff:0a00:0001'],
  ['2a00:1450::5efe:10.0.0.1', '2a00:1450:0:1:200:5efe:7f00:1'],
];

const fine = [
  ['1.0.0.0', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255', '128.0.0.0'],
  ['168.63.129.15', '168.63.129.17', '169.253.255.255', '169.255.0.0', '172.15.255.255', '172.32.0.0'],
  ['191.255.255.255', '192.0.1.0', '192.0.1.255', '192.0.3.0', '192.31.195.255', '192.31.197.0'],
  ['192.52.192.255', '192.52.194.0', '192.88.98.255', '192.88.100.0', '192.167.255.255', '192.169.0.0'],
  ['192.175.47.255', '192.175.49.0', '198.17.255.255', '198.20.0.0', '198.51.99.255', '198.51.101.0'],
  ['203.0.112.255', '203.0.114.0', '223.255.255.255'],
  [
    '2000::1',
    '2001:200::1',
    '2001:db7:ffff::1',
    '2001:db9::1',
    '2003::1',
    '2620:4f:7fff::1',
    '2620:4f:8001::1',
  ],
  ['3ffe::1', '3fff:1000::1', '2606:4700:4700::1111', '2a00:1450:4001:81b::200e'],
  ['64:ff9b::8.8.8.8', '64:ff9b::808:808', '::ffff:8.8.8.8', '::ffff:808:808'],
];

test('every block of the special-purpose registries is refused from its first to its last address', () => {
  deepEqual(
    refused.flat().filter((address) => isPublicAddress(address)),
    [],
  );
});

test('the neighbours of every block, and what carries a public IPv4 address, are public', () => {
  deepEqual(
    fine.flat().filter((address) => !isPublicAddress(address)),
    [],
  );
});

test('what is no address in its plain form is never public', () => {
  const texts = ['', 'example.com', '8.8.8', '010.8.8.8', '0x8080808', '134744072', '8.8.8.8 ', '[2000::1]'];
  for (const text of [...texts, '2000::1%eth0', 'fe80::1%25eth0', '1.2.3.4.5', ':::']) {
    equal(isPublicAddress(text), false, text);
  }
});

test('an address that carries an IPv4 one is that one', () => {
  equal(addressMeant('::ffff:a00:1'), '10.0.0.1');
  equal(addressMeant('::FFFF:10.0.0.1'), '10.0.0.1');
  equal(addressMeant('64:ff9b::10.0.0.1'), '10.0.0.1');
  equal(addressMeant('64:ff9b::'), '0.0.0.0');
  equal(addressMeant('2000::1'), '2000::1');
  equal(addressMeant('10.0.0.1'), '10.0.0.1');
});
