import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';

const root = path.resolve(import.meta.dirname, '..', '..');
const folder = path.join(root, 'infra/compose');
const secrets = { POSTGRES_PASSWORD: 'a', STOA_MASTER_KEY: 'b', STOA_CLUSTER_SECRET: 'c' };
const service = z.object({
  command: z.array(z.string()).optional(),
  healthcheck: z.object({ test: z.array(z.string()) }).optional(),
  read_only: z.boolean().optional(),
});
const file = z.object({ services: z.record(z.string(), service) });

function compose(environment: Readonly<Record<string, string>>) {
  return spawnSync('docker-compose', ['-f', path.join(folder, 'docker-compose.yaml'), 'config'], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), ...environment },
  });
}

const isInstalled = spawnSync('docker-compose', ['--version']).status === 0;
const skip = isInstalled ? false : 'docker-compose is not installed: the file is not held against it';

describe('the Compose file', () => {
  test('is accepted by the config command', { skip }, () => {
    const { status, stderr } = compose(secrets);
    assert.equal(status, 0, stderr);
  });

  test('is refused without each of its secrets', { skip }, () => {
    for (const name of Object.keys(secrets)) {
      const others = Object.fromEntries(Object.entries(secrets).filter(([other]) => other !== name));
      const { status, stderr } = compose(others);
      assert.notEqual(status, 0);
      assert.ok(stderr.includes(name), stderr);
    }
  });

  test('runs two gateways and two control processes, read-only, beside servers with health checks', () => {
    const { services } = file.parse(
      parse(readFileSync(path.join(folder, 'docker-compose.yaml'), 'utf8'), { merge: true }),
    );
    const serving = Object.values(services).flatMap(({ command }) =>
      command?.[0] === 'serve' ? [command[1]] : [],
    );
    for (const role of ['control', 'gateway'])
      assert.equal(serving.filter((one) => one === role).length, 2, role);
    for (const [name, { command, read_only: isReadOnly }] of Object.entries(services))
      if (command?.[0] === 'serve') assert.equal(isReadOnly, true, name);
    for (const name of ['postgres', 'nats', 'redis']) assert.ok(services[name]?.healthcheck, name);
  });
});

describe('the start of an image', () => {
  test('reads the file of settings without running it, and keeps what the environment has', () => {
    const scratch = mkdtempSync(path.join(tmpdir(), 'stoa-start-'));
    try {
      const settings = path.join(scratch, 'settings.env');
      const trap = path.join(scratch, 'ran');
      writeFileSync(
        settings,
        `STOA_LOG_LEVEL=warn\nSTOA_OPENAI_API_KEY=a$(touch ${trap})&;'"\nnot a name=1\n`,
      );
      const start = path.join(root, 'infra/docker/start.sh');
      const { stdout, stderr } = spawnSync('/bin/sh', [start, 'config', 'print'], {
        encoding: 'utf8',
        env: {
          PATH: `${path.dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
          STOA_ENVIRONMENT_FILE: settings,
          STOA_LOG_LEVEL: 'error',
          STOA_DATA_DIR: path.join(scratch, 'data'),
        },
      });
      assert.match(stdout, /STOA_LOG_LEVEL\s*[=:]?\s*error/, stderr);
      assert.throws(() => readFileSync(trap), 'nothing in the file was run');
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});
