import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { createFaultProxy, type FaultProxy } from './fault-proxy.ts';

/** Bytes as they came, with a way to wait for more. */
function reader(socket: Socket): { size: () => number; until: (size: number) => Promise<Buffer> } {
  const parts: Buffer[] = [];
  const size = (): number => parts.reduce((sum, part) => sum + part.length, 0);
  socket.on('data', (bytes: Buffer) => parts.push(bytes));
  return {
    size,
    async until(wanted) {
      while (size() < wanted) await once(socket, 'data');
      return Buffer.concat(parts);
    },
  };
}

describe('a proxy with faults', () => {
  let echo: Server;
  let behind: { host: string; port: number };
  let proxy: FaultProxy;
  const clients: Socket[] = [];

  before(async () => {
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy());
      socket.pipe(socket);
    });
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    const address = echo.address();
    assert(address !== null && typeof address === 'object');
    behind = { host: '127.0.0.1', port: address.port };
  });
  after(() => {
    echo.close();
  });
  beforeEach(async () => {
    proxy = await createFaultProxy(behind);
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await proxy.close();
  });

  async function open(): Promise<Socket> {
    const socket = connect(proxy.port, '127.0.0.1');
    clients.push(socket);
    await once(socket, 'connect');
    return socket;
  }

  test('without a fault bytes pass unchanged in both directions, and an end passes too', async () => {
    const socket = await open();
    const read = reader(socket);
    const sent = Buffer.alloc(3_000_000, 'stoa ');
    socket.end(sent);
    const ended = once(socket, 'end');
    assert.deepEqual(await read.until(sent.length), sent);
    await ended;
    assert.equal(proxy.taken, 1);
  });

  test('a delay holds every byte back, once in each direction', async () => {
    const socket = await open();
    const read = reader(socket);
    await proxy.set({ delayMs: 60 });
    const startMs = performance.now();
    socket.write('one');
    assert.equal(String(await read.until(3)), 'one');
    assert.ok(performance.now() - startMs >= 115, `${performance.now() - startMs} ms`);
  });

  test('a limit of bytes a second holds', async () => {
    const socket = await open();
    const read = reader(socket);
    await proxy.set({ bytesPerSecond: 100_000 });
    const startMs = performance.now();
    socket.write(Buffer.alloc(30_000));
    await read.until(30_000);
    const tookMs = performance.now() - startMs;
    assert.ok(tookMs > 250 && tookMs < 3000, `${tookMs} ms`);
  });

  test('silent, connections are taken and nothing answers; lifted, what was held back passes', async () => {
    const old = await open();
    await proxy.set({ isSilent: true });
    const fresh = await open();
    const reads = [reader(old), reader(fresh)];
    old.write('a');
    fresh.write('b');
    await assert.rejects(once(fresh, 'data', { signal: AbortSignal.timeout(150) }), { name: 'AbortError' });
    assert.deepEqual(
      reads.map((read) => read.size()),
      [0, 0],
    );
    await proxy.set({});
    assert.equal(String(await reads[0]?.until(1)), 'a');
    assert.equal(String(await reads[1]?.until(1)), 'b');
  });

  test('a reset reaches both ends, and the next connection passes', async () => {
    const socket = await open();
    const cut = new Promise<NodeJS.ErrnoException>((resolve) => socket.once('error', resolve));
    assert.equal(proxy.reset(), 1);
    assert.equal((await cut).code, 'ECONNRESET');
    const next = await open();
    const read = reader(next);
    next.write('x');
    assert.equal(String(await read.until(1)), 'x');
  });

  test('shut, the port refuses and what was open is cut; opened again it is the same port', async () => {
    const socket = await open();
    const { port } = proxy;
    const closed = once(socket, 'close').catch(() => undefined);
    socket.on('error', () => undefined);
    await proxy.set({ isShut: true });
    await closed;
    await assert.rejects(open(), { code: 'ECONNREFUSED' });
    await proxy.set({});
    assert.equal(proxy.port, port);
    const read = reader(await open());
    clients.at(-1)?.write('y');
    assert.equal(String(await read.until(1)), 'y');
  });
});
