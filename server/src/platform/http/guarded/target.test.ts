import { deepEqual, equal, ok } from 'node:assert/strict';
import { test } from 'node:test';
import { toTypeId } from '#kernel';
import { type AllowList, readAllowList } from './allow-list.ts';
import { readOutboundAllowances } from './allow-setting.ts';
import { readTarget } from './target.ts';

function listOf(...entries: string[]): AllowList {
  const read = readAllowList(entries);
  ok('list' in read, JSON.stringify(read));
  return read.list;
}

function reasonOf(url: string, allow: readonly AllowList[] = [], isHttpAllowed = true): string | null {
  const read = readTarget(url, { isHttpAllowed, allow });
  return 'refusal' in read ? read.refusal.reason : null;
}

test('only the plain form of a URL is read', () => {
  const bad = [
    '',
    'example.com',
    '//example.com/',
    'https:example.com',
    'https:/example.com',
    'https:///example.com',
    'https:\\\\example.com',
    'https://example.com\\@10.0.0.1/',
    ' https://example.com/',
    'https://example.com/a b',
    'https://exa\tmple.com/',
    'https://example.com/\n',
    'https://',
    'https://?x',
    'https://example.com..',
    'https://[::1%25eth0]/',
    'https://1.2.3.4.5/',
    'https://0x1ffffffff/',
    'https://a..b/',
    `https://example.com/${'a'.repeat(2048)}`,
    'https://%00.example.com/',
    'https://example.com:99999/',
  ];
  for (const url of bad) equal(reasonOf(url), 'bad_url', url);
  for (const url of [
    'https://u:p@example.com/',
    'https://@example.com/',
    'https://u@example.com',
    'https://:@example.com',
  ])
    equal(reasonOf(url), 'credentials', url);
  for (const url of [
    'ftp://example.com/',
    'file:///etc/passwd',
    'data:,x',
    'ws://example.com/',
    'gopher://a.b/',
  ])
    equal(reasonOf(url), 'scheme', url);
});

test('plain http is called only where the deployment says so, or the host is listed', () => {
  equal(reasonOf('http://example.com/'), null);
  equal(reasonOf('http://example.com/', [], false), 'scheme');
  equal(reasonOf('http://example.com/', [listOf('example.com')], false), null);
  equal(reasonOf('https://example.com/', [], false), null);
});

test('names that mean something inside a network are refused, whatever their letters, dots and numbers', () => {
  const inner = [
    'localhost',
    'LOCALHOST',
    'localhost.',
    'a.localhost',
    'redis',
    'metadata',
    'printer.local',
    'db.corp',
    'x.internal',
    'metadata.google.internal.',
    'kubernetes.default.svc',
    'x.svc.cluster.local',
    'router.lan',
    'x.home.arpa',
    '1.0.0.127.in-addr.arpa',
    'x.onion',
    'ｌｏｃａｌｈｏｓｔ',
  ];
  for (const host of inner) equal(reasonOf(`https://${host}/`), 'inner_name', host);
  for (const host of ['example.com', 'localhost.example.com', 'internal.example.com', 'bücher.example.com'])
    equal(reasonOf(`https://${host}/`), null, host);
});

test('an address is judged by what it is, in every spelling', () => {
  for (const host of ['0x7f.1', '017700000001', '2130706433', '127.1', '[::ffff:7f00:1]', '%31%32%37.0.0.1'])
    equal(reasonOf(`https://${host}/`), 'special_address', host);
  for (const host of ['0x08080808', '134744072', '8.8.2056', '8.8.8.8.'])
    equal(reasonOf(`https://${host}/`), null, host);
});

test('a list lets pass what it names and nothing beside it', () => {
  const list = [
    listOf('hooks.corp', '*.svc:9443', '10.1.0.0/16', '[fd00::5]:8443', '192.168.0.9:*', 'fd01::/16'),
  ];
  const passing = [
    'https://hooks.corp/',
    'http://hooks.corp:8080/',
    'https://a.svc:9443/',
    'https://a.b.svc:9443/',
    'https://10.1.2.3/',
    'https://[::ffff:10.1.2.3]/',
    'https://[fd00::5]:8443/',
    'http://192.168.0.9:22/',
    'https://[fd01::1]/',
  ];
  for (const url of passing) equal(reasonOf(url, list), null, url);
  const refused = [
    ['https://hooks.corp:9000/', 'inner_name'],
    ['https://a.hooks.corp/', 'inner_name'],
    ['https://svc:9443/', 'inner_name'],
    ['https://a.svc/', 'inner_name'],
    ['https://10.2.0.1/', 'special_address'],
    ['https://10.1.0.1:22/', 'special_address'],
    ['https://[fd00::5]/', 'special_address'],
    ['https://192.168.0.8/', 'special_address'],
  ] as const;
  for (const [url, reason] of refused) equal(reasonOf(url, list), reason, url);
});

test('a port that is not open is called where the list names it with its host', () => {
  equal(reasonOf('https://hooks.example.com:9443/'), 'port');
  equal(reasonOf('https://hooks.example.com:9443/', [listOf('hooks.example.com:9443')]), null);
  equal(reasonOf('https://hooks.example.com:0/', [listOf('hooks.example.com')]), 'port');
  for (const port of [80, 443, 8080, 8443]) equal(reasonOf(`https://hooks.example.com:${port}/`), null);
});

test('entries that are none are all named', () => {
  const read = readAllowList([
    'ok.example',
    '10.0.0.1/8',
    'a b',
    'http://x',
    ':80',
    'x:0',
    'x:99999',
    '1.2.3',
    '[::1',
    '*',
    '',
  ]);
  deepEqual('faults' in read && read.faults.map(({ entry }) => entry), [
    '10.0.0.1/8',
    'a b',
    'http://x',
    ':80',
    'x:0',
    'x:99999',
    '1.2.3',
    '[::1',
    '*',
    '',
  ]);
});

test('the setting names entries for all tenants and for single ones', () => {
  const id = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80';
  const one = readOutboundAllowances(`hooks.corp, ${toTypeId('ten', id)}=10.0.0.0/24:*`);
  ok('allowances' in one);
  const { all, of } = one.allowances;
  deepEqual([all.hasHost('hooks.corp', 443), of(id).hasHost('hooks.corp', 443)], [true, false]);
  deepEqual([all.hasAddress('10.0.0.1', 22), of(id).hasAddress('10.0.0.1', 22)], [false, true]);
  equal(of('018f4d2a-7c1b-7def-8a12-3b4c5d6e7f81').hasAddress('10.0.0.1', 22), false);
  for (const wrong of ['a=b=c', '=x', 'ten_x=y', 'key_018f=x', 'http://x'])
    deepEqual(readOutboundAllowances(wrong), { wrong: [wrong] });
  ok('allowances' in readOutboundAllowances(null));
});
