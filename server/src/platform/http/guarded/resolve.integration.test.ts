import { deepEqual, ok, rejects } from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createResolve } from './resolve.ts';

/** A DNS server that answers A and AAAA questions by a table, and stays silent about other names. */
async function openDns(table: Readonly<Record<string, { a?: string; aaaa?: readonly number[] }>>) {
  const server: Socket = createSocket('udp4');
  server.on('message', (question, from) => {
    const labels: string[] = [];
    let at = 12;
    for (let length = question[at] ?? 0; length > 0; length = question[at] ?? 0) {
      labels.push(question.subarray(at + 1, at + 1 + length).toString());
      at += 1 + length;
    }
    const found = table[labels.join('.')];
    if (found === undefined) return;
    const type = question.readUInt16BE(at + 1);
    const data =
      type === 1 && found.a !== undefined
        ? Buffer.from(found.a.split('.').map(Number))
        : type === 28 && found.aaaa !== undefined
          ? Buffer.from(found.aaaa.flatMap((group) => [group >> 8, group & 255]))
          : null;
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(data === null ? 0 : 1, 6);
    head.writeUInt16BE(0, 8);
    head.writeUInt16BE(0, 10);
    const answer = Buffer.alloc(data === null ? 0 : 12);
    if (data !== null) {
      answer.writeUInt16BE(0xc00c, 0);
      answer.writeUInt16BE(type, 2);
      answer.writeUInt16BE(1, 4);
      answer.writeUInt16BE(data.length, 10);
    }
    const asked = question.subarray(12, at + 5);
    server.send(Buffer.concat([head, asked, answer, data ?? Buffer.alloc(0)]), from.port, from.address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  return { address: `127.0.0.1:${server.address().port}`, close: () => server.close() };
}

test('the addresses of both families are found, or those of the one that there are', async () => {
  const dns = await openDns({
    'both.example.com': { a: '93.184.216.34', aaaa: [0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111] },
    'four.example.com': { a: '93.184.216.34' },
    'six.example.com': { aaaa: [0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111] },
    'none.example.com': {},
  });
  const resolve = createResolve([dns.address]);
  deepEqual(await resolve('both.example.com', false), ['93.184.216.34', '2606:4700::1111']);
  deepEqual(await resolve('four.example.com', false), ['93.184.216.34']);
  deepEqual(await resolve('six.example.com', false), ['2606:4700::1111']);
  await rejects(resolve('none.example.com', false), /ENODATA/);
  dns.close();
});

test('a tenant’s name is not read from this machine’s hosts file, a listed one is', async () => {
  const dns = await openDns({ localhost: {} });
  const resolve = createResolve([dns.address]);
  await rejects(resolve('localhost', false));
  ok((await resolve('localhost', true)).includes('127.0.0.1'));
  dns.close();
});

test('DNS servers that stay silent hold up no thread that files are read with', async () => {
  const dns = await openDns({});
  const resolve = createResolve([dns.address]);
  const silent = Array.from({ length: 50 }, (_, index) =>
    resolve(`n${index}.example.com`, false).then(
      () => 'found',
      () => 'none',
    ),
  );
  const startedMs = performance.now();
  await readFile(import.meta.filename);
  ok(performance.now() - startedMs < 1_000);
  deepEqual(new Set(await Promise.all(silent)), new Set(['none']));
  dns.close();
});
