import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AppError } from '#kernel';
import { lockDataDirectory } from './index.ts';

/** A process that takes the lock, says so, and stays until it is killed. */
async function holder(directory: string): Promise<ChildProcess> {
  const script = `
    const { lockDataDirectory } = await import(${JSON.stringify(new URL('./index.ts', import.meta.url).href)});
    lockDataDirectory(${JSON.stringify(directory)});
    process.stdout.write('held');
    setInterval(() => undefined, 1000);
    globalThis.gc?.();`;
  const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  assert.ok(child.stdout !== null);
  await once(child.stdout, 'data');
  return child;
}

const refusalNaming =
  (pid: number | undefined) =>
  (error: unknown): boolean =>
    error instanceof AppError &&
    error.code === 'data_directory_locked' &&
    error.publicMessage.includes(`process ${pid ?? 'none'}`);

test('a second start is refused with the pid of the first, and kill -9 frees the directory', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'stoa-lock-'));
  const directory = join(parent, 'data');
  const first = await holder(directory);
  assert.throws(() => lockDataDirectory(directory), refusalNaming(first.pid));
  first.kill('SIGKILL');
  await once(first, 'exit');
  const lock = lockDataDirectory(directory);
  assert.throws(() => lockDataDirectory(directory), refusalNaming(process.pid));
  lock.release();
  lock.release();
  lockDataDirectory(directory).release();
  assert.equal((await stat(directory)).mode & 0o777, 0o700);
  await rm(parent, { recursive: true });
});

test('a directory that cannot be made is a fault of the configuration', () => {
  assert.throws(
    () => lockDataDirectory('/dev/null/data'),
    (error) => error instanceof AppError && error.code === 'invalid_configuration',
  );
});
