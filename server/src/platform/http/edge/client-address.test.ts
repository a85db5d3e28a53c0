import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { createClientAddress } from './client-address.ts';

/** What a server with these proxies says of a request that comes from loopback with these headers. */
async function addressSeen(
  trustedProxies: readonly string[],
  headers: http.OutgoingHttpHeaders,
  host = '127.0.0.1',
): Promise<string> {
  const clientAddressOf = createClientAddress(trustedProxies);
  const server = http.createServer((request, response) => response.end(clientAddressOf(request)));
  await new Promise<void>((resolve) => server.listen(0, host === '::1' ? '::1' : '::', resolve));
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const { port } = address;
  try {
    return await new Promise((resolve, reject) => {
      const request = http.request({ host, port, headers }, (response) => {
        let body = '';
        response.on('data', (part: Buffer) => (body += part.toString()));
        response.on('end', () => resolve(body));
      });
      request.on('error', reject);
      request.end();
    });
  } finally {
    server.close();
  }
}

const loopback = ['127.0.0.0/8', '::1'];
const forwarded = (value: string | string[]) => ({ 'x-forwarded-for': value });

test('without trusted proxies the header says nothing, and a dual-stack socket shows IPv4 as IPv4', async () => {
  assert.equal(await addressSeen([], forwarded('203.0.113.9')), '127.0.0.1');
});

test('a peer that is no trusted proxy is the client, whatever it writes', async () => {
  assert.equal(await addressSeen(['10.0.0.0/8'], forwarded('203.0.113.9')), '127.0.0.1');
});

test('the client is the right-most address that is no trusted proxy', async () => {
  const proxies = [...loopback, '10.0.0.0/8', '2001:db8:ffff::/48'];
  const cases: [string | string[], string][] = [
    ['203.0.113.9', '203.0.113.9'],
    ['198.51.100.1, 203.0.113.9', '203.0.113.9'],
    ['198.51.100.1,203.0.113.9 ,10.1.2.3', '203.0.113.9'],
    [['198.51.100.1', '203.0.113.9, 10.1.2.3'], '203.0.113.9'],
    ['garbage, 203.0.113.9, 10.1.2.3', '203.0.113.9'],
    ['203.0.113.9, 2001:db8:ffff::7', '203.0.113.9'],
    ['203.0.113.9:4711', '203.0.113.9'],
    ['2001:DB8:0:0::1', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['::ffff:203.0.113.9', '203.0.113.9'],
    ['203.0.113.9, ::ffff:10.1.2.3', '203.0.113.9'],
    ['10.9.9.9, 10.1.2.3', '10.9.9.9'],
  ];
  for (const [header, expected] of cases)
    assert.equal(await addressSeen(proxies, forwarded(header)), expected, String(header));
});

test('a malformed way to the client makes it the peer', async () => {
  for (const header of [
    'unknown',
    '',
    ' ',
    ',',
    '203.0.113.9,',
    '_hidden',
    'proxy.internal',
    '203.0.113',
    '203.0.113.9.1:80',
    '010.0.0.1',
    '203.0.113.9:port',
    '203.0.113.9:123456',
    '[203.0.113.9]',
    '[2001:db8::1',
    '2001:db8::1]:80',
    'fe80::1%eth0',
    '203.0.113.9;10.0.0.1',
    '203.0.113.9, unknown',
    `203.0.113.9, ${'127.0.0.2, '.repeat(32)}127.0.0.2`,
  ])
    assert.equal(await addressSeen(loopback, forwarded(header)), '127.0.0.1', header);
});

test('a peer over IPv6 may be a trusted proxy', async () => {
  assert.equal(await addressSeen(['::1/128'], forwarded('203.0.113.9'), '::1'), '203.0.113.9');
  assert.equal(await addressSeen(['127.0.0.1'], forwarded('203.0.113.9'), '::1'), '::1');
});

test('a list of proxies that is none is refused at once', () => {
  assert.throws(() => createClientAddress(['10.0.0.0/33']), /no CIDR block/);
});
