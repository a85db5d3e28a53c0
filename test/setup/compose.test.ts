import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..', '..');
const folder = path.join(root, 'infra/compose');
const secrets = { POSTGRES_PASSWORD: 'a', STOA_MASTER_KEY: 'b', STOA_CLUSTER_SECRET: 'c' };
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

  test('runs two gateways and two control processes, read-only, beside servers with health checks', {
    skip,
  }, () => {
    const config = compose(secrets).stdout;
    const services = config.slice(config.indexOf('services:')).split(/^ {2}(?=\S)/m);
    const serving = services.filter((text) => /^ {4}- serve$/m.test(text));
    for (const role of ['control', 'gateway'])
      assert.equal(serving.filter((text) => text.includes(`- ${role}\n`)).length, 2, role);
    for (const text of serving) assert.match(text, /^ {4}read_only: true$/m);
    for (const name of ['postgres', 'nats', 'redis'])
      assert.match(services.find((text) => text.startsWith(`${name}:`)) ?? '', /^ {4}healthcheck:$/m, name);
  });
});

describe('the servers of the Compose file', () => {
  test('Redis has a bound and a policy, since its defaults are no bound and refused writes', () => {
    const text = readFileSync(path.join(folder, 'docker-compose.yaml'), 'utf8');
    const [redis = ''] = text.slice(text.indexOf('\n  redis:\n') + 1).split(/\n\n/);
    assert.match(redis, /- --maxmemory\n\s+- "\$\{REDIS_MAX_MEMORY:-\d+mb\}"\n/);
    assert.match(redis, /- --maxmemory-policy\n\s+- allkeys-lru\n/);
  });

  test('the balancer looks up again where its gateways are, and starts without one', () => {
    const text = readFileSync(path.join(folder, 'haproxy.cfg'), 'utf8');
    const [, name = ''] = /^resolvers (\w+)$/m.exec(text) ?? [];
    assert.notEqual(name, '', 'there are resolvers');
    assert.match(text, new RegExp(`^ {2}default-server .*resolvers ${name} init-addr \\S*none$`, 'm'));
    assert.match(text, /^ {2}hold valid \d+s$/m);
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
