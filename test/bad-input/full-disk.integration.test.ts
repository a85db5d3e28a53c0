import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import pg from 'pg';
import { z } from 'zod';
import { eventually, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { assertError, errorCodeOf } from './error-answer.ts';

/** A file system of a few MiB of its own, which a test can fill and empty. */
interface SmallDisk {
  readonly folder: string;
  fill(): void;
  empty(): void;
  unmount(): void;
}

/** Null where this user may not mount. */
function mountSmallDisk(sizeMebibytes: number): SmallDisk | null {
  const folder = mkdtempSync(join(tmpdir(), 'stoa-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMebibytes}m`, 'tmpfs', folder]);
  if (mounted.status !== 0) {
    rmSync(folder, { recursive: true });
    return null;
  }
  const filler = join(folder, 'filler');
  return {
    folder,
    fill() {
      for (const partBytes of [1024 * 1024, 4096, 1]) {
        try {
          for (;;) writeFileSync(filler, Buffer.alloc(partBytes), { flag: 'a' });
        } catch {
          // Full for parts of this size; smaller ones may find room.
        }
      }
    },
    empty: () => rmSync(filler, { force: true }),
    unmount() {
      spawnSync('umount', ['-l', folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

interface Scene {
  readonly stoa: StoaProcess;
  readonly upstream: EchoUpstream;
  readonly disk: SmallDisk;
}

/** A Stoa whose journal lies on a small disk of its own; the test is skipped aloud where nothing can be mounted. */
async function onSmallDisk(
  context: TestContext,
  env: Record<string, string>,
  play: (scene: Scene) => Promise<void>,
): Promise<void> {
  const disk = mountSmallDisk(4);
  if (disk === null) {
    context.skip('no tmpfs can be mounted here (that needs root), so no disk can be filled');
    return;
  }
  const upstream = await startEchoUpstream();
  try {
    const journal = join(disk.folder, 'journal');
    mkdirSync(journal);
    const settings = {
      STOA_OPENAI_BASE_URL: upstream.url,
      STOA_LOG_LEVEL: 'warn',
      STOA_JOURNAL_DIR: journal,
    };
    const stoa = await startStoa({ env: { ...settings, ...env } });
    try {
      await play({ stoa, upstream, disk });
    } finally {
      await stoa.dispose();
    }
  } finally {
    await upstream.close();
    disk.unmount();
  }
}

const body = { model: echoModel, messages: [{ role: 'user', content: 'hi' }] };
const usageShape = z.looseObject({ totals: z.looseObject({ requests: z.number() }) });

/** Chats until all were answered with 200; returns their request ids. */
async function chats(stoa: StoaProcess, count: number): Promise<string[]> {
  const answers = await Promise.all(
    Array.from({ length: count }, async () => stoa.call('POST', '/v1/chat/completions', { body })),
  );
  for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  return answers.map(({ headers }) => String(headers['x-request-id']));
}

/** Each of these has exactly one record, and of others there are at most so many. */
async function assertAllOnRecord(stoa: StoaProcess, ids: readonly string[], others = 0): Promise<void> {
  await eventually(`record of ${ids.length} requests`, async () => {
    const answer = await stoa.call('GET', '/v1/usage');
    return answer.status === 200 && usageShape.parse(answer.json).totals.requests >= ids.length;
  });
  const { totals } = usageShape.parse((await stoa.call('GET', '/v1/usage')).json);
  assert.ok(totals.requests <= ids.length + others, `${totals.requests} records of ${ids.length} requests`);
  for (const id of ids) assert.equal((await stoa.call('GET', `/v1/requests/${id}`)).status, 200, id);
}

test('with the disk of the journal full requests are answered, and none is lost through kill -9', async (context) => {
  await onSmallDisk(context, {}, async ({ stoa, disk }) => {
    const ids = await chats(stoa, 10);
    disk.fill();
    ids.push(...(await chats(stoa, 30)));
    assert.equal((await stoa.call('GET', '/readyz')).status, 200, 'one full disk takes no process out');
    disk.empty();
    ids.push(...(await chats(stoa, 10)));
    disk.fill();
    ids.push(...(await chats(stoa, 10)));
    await stoa.kill();
    disk.empty();
    await stoa.restart();
    await assertAllOnRecord(stoa, ids);
    ids.push(...(await chats(stoa, 5)));
    await assertAllOnRecord(stoa, ids);
  });
});

test('a start on a full journal disk serves, and what it answered is on record', async (context) => {
  await onSmallDisk(context, {}, async ({ stoa, disk }) => {
    const ids = await chats(stoa, 5);
    await stoa.stop();
    disk.fill();
    await stoa.restart();
    ids.push(...(await chats(stoa, 5)));
    disk.empty();
    await assertAllOnRecord(stoa, ids);
  });
});

test('with the whole data directory full requests are answered or refused as not to be recorded, and none is lost', async (context) => {
  const disk = mountSmallDisk(260);
  if (disk === null) {
    context.skip('no tmpfs can be mounted here (that needs root), so no disk can be filled');
    return;
  }
  const temporary = process.env['TMPDIR'];
  const upstream = await startEchoUpstream();
  try {
    process.env['TMPDIR'] = disk.folder;
    const stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'warn' } });
    try {
      const ids = await chats(stoa, 5);
      disk.fill();
      let refused = 0;
      for (let round = 0; round < 2; round += 1) {
        const asked = Array.from({ length: 6 }, async () =>
          stoa.call('POST', '/v1/chat/completions', { body }),
        );
        for (const answer of await Promise.all(asked)) {
          if (answer.status === 200) ids.push(String(answer.headers['x-request-id']));
          else {
            assert.match(errorCodeOf(answer), /^(metering|database)_unavailable$/);
            refused += 1;
          }
        }
      }
      disk.empty();
      await eventually('answer', async () => {
        const answer = await stoa.call('POST', '/v1/chat/completions', { body });
        if (answer.status === 200) ids.push(String(answer.headers['x-request-id']));
        return answer.status === 200;
      });
      await stoa.kill();
      await stoa.restart();
      await assertAllOnRecord(stoa, ids, refused);
    } finally {
      await stoa.dispose();
    }
  } finally {
    if (temporary === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = temporary;
    await upstream.close();
    disk.unmount();
  }
});

const adminUrl = process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres';

/** A way to a database that can be cut and mended, with a scratch database at its end. */
async function openCuttableDatabase(): Promise<{
  url: string;
  cut(): void;
  mend(): void;
  close(): Promise<void>;
}> {
  const name = `stoa_full_disk_${process.pid}`;
  const statement = async (text: string): Promise<void> => {
    const client = new pg.Client({ connectionString: adminUrl });
    await client.connect();
    try {
      await client.query(text);
    } finally {
      await client.end();
    }
  };
  await statement(`create database ${name}`);
  const target = new URL(adminUrl);
  const sockets = new Set<Socket>();
  let isCut = false;
  const server = createServer((near) => {
    if (isCut) {
      near.destroy();
      return;
    }
    const far = connect({ host: target.hostname, port: Number(target.port === '' ? 5432 : target.port) });
    for (const [one, other] of [[near, far] as const, [far, near] as const]) {
      sockets.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const url = new URL(adminUrl);
  url.host = `127.0.0.1:${address.port}`;
  url.pathname = `/${name}`;
  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: url.href,
    cut() {
      isCut = true;
      drop();
    },
    mend() {
      isCut = false;
    },
    async close() {
      drop();
      server.close();
      await statement(`drop database if exists ${name} with (force)`);
    },
  };
}

test('with the journal full and the database away nothing is called and nothing lost', async (context) => {
  if (process.env['STOA_TEST_SERVICES'] !== '1') {
    context.skip('needs PostgreSQL: an embedded database cannot be away (npm run test:services)');
    return;
  }
  const database = await openCuttableDatabase();
  try {
    await onSmallDisk(context, { STOA_DATABASE_URL: database.url }, async ({ stoa, disk, upstream }) => {
      const ids = await chats(stoa, 5);
      database.cut();
      ids.push(...(await chats(stoa, 5)));
      disk.fill();
      // A request that the last page of the journal still took waits for its commit before it ends.
      await eventually(
        'refusal',
        async () => {
          const answer = await stoa.call('POST', '/v1/chat/completions', { body });
          if (answer.status === 200) ids.push(String(answer.headers['x-request-id']));
          return answer.status === 503;
        },
        30_000,
      );
      const callsBefore = upstream.callCount;
      const refused = await stoa.call('POST', '/v1/chat/completions', { body });
      assertError(refused, 'metering_unavailable');
      assert.match(String(refused.headers['retry-after']), /^\d+$/);
      assert.equal(upstream.callCount, callsBefore, 'no money is spent that nobody could record');
      assert.equal((await stoa.call('GET', '/readyz')).status, 200);
      disk.empty();
      database.mend();
      await eventually('answer', async () => {
        const answer = await stoa.call('POST', '/v1/chat/completions', { body });
        if (answer.status === 200) ids.push(String(answer.headers['x-request-id']));
        return answer.status === 200;
      });
      for (const id of ids) {
        await eventually(
          `record of ${id}`,
          async () => (await stoa.call('GET', `/v1/requests/${id}`)).status === 200,
        );
      }
    });
  } finally {
    await database.close();
  }
});
