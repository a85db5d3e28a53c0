import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { defaultText, profiles, type SettingDeclaration, settingKey, settingTable } from '@stoa/contracts';
import { AppError } from '#kernel';
import { configFilePath, isTracingConfigured, loadSettings } from './config.ts';
import { parseSetting } from './config-parse.ts';
import { printConfig } from './config-print.ts';
import { faultNames, faultsOf, options, production } from './config.harness.ts';

let directory = '';
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'stoa-config-'));
});
after(() => rmSync(directory, { recursive: true }));

test('with nothing set, the settings are the documented defaults of development', () => {
  const { settings, origins, warnings } = loadSettings({}, options);
  assert.deepEqual(settings.listen, { host: '127.0.0.1', port: 8080 });
  assert.deepEqual(settings.adminListen, { host: '127.0.0.1', port: 8081 });
  assert.equal(settings.dataDir, '/srv/stoa/.stoa');
  assert.deepEqual(configFilePath(settings), { path: '/srv/stoa/stoa.yaml', mustExist: false });
  assert.equal(settings.profile, 'development');
  assert.equal(settings.drainDelayMs, 0);
  assert.equal(settings.demoTenant, true);
  assert.equal(settings.bodyLimitBytes, 20 * 1024 * 1024);
  assert.equal(settings.databaseUrl, null);
  assert.equal(settings.meteringDurability, 'journal');
  assert.deepEqual(warnings, []);
  assert.equal(origins.size, settingTable.length);
  for (const origin of origins.values()) assert.deepEqual(origin, { kind: 'default' });
});

test('every default is a valid value of its setting in both profiles', () => {
  for (const declaration of settingTable) {
    for (const profile of profiles) {
      const text = defaultText(declaration, profile);
      if (text !== null) assert.ok('value' in parseSetting(declaration, text, '/'), declaration.name);
    }
  }
});

test('every setting has its own name and property, a sentence, and a unit in its name where it has one', () => {
  const units: Readonly<Record<string, string>> = {
    duration: '_MS',
    bytes: '_BYTES',
    days: '_DAYS',
    months: '_MONTHS',
  };
  const keys = new Set<string>();
  for (const declaration of settingTable) {
    assert.match(declaration.name, /^STOA_[A-Z]+(_[A-Z]+)*$/);
    keys.add(settingKey(declaration.name));
    assert.match(declaration.sentence, /^[A-Z`].*\.$/);
    const unit = units[declaration.type];
    if (unit !== undefined) assert.ok(declaration.name.endsWith(unit), declaration.name);
  }
  assert.equal(keys.size, settingTable.length);
});

test('production has defaults of its own, and starts with four logins and a random master key', () => {
  const { settings } = loadSettings(production, options);
  assert.equal(settings.drainDelayMs, 5000);
  assert.equal(settings.demoTenant, false);
  assert.equal(settings.masterKey?.length, 32);
});

test('a variable beats the default, and paths are relative to the working directory', () => {
  const { settings, origins } = loadSettings(
    { STOA_DATA_DIR: 'data', STOA_LISTEN: '[::1]:0', STOA_CONFIG: 'my.yaml' },
    options,
  );
  assert.equal(settings.dataDir, '/home/operator/data');
  assert.deepEqual(settings.listen, { host: '::1', port: 0 });
  assert.deepEqual(origins.get('STOA_LISTEN'), { kind: 'environment' });
  assert.deepEqual(configFilePath(settings), { path: '/home/operator/my.yaml', mustExist: true });
});

test('without STOA_CONFIG the file lies beside the data directory', () => {
  const { settings } = loadSettings({ STOA_DATA_DIR: '/var/lib/stoa/data' }, options);
  assert.deepEqual(configFilePath(settings), { path: '/var/lib/stoa/stoa.yaml', mustExist: false });
});

test('an empty variable is an unset one', () => {
  const { settings, origins } = loadSettings(
    { STOA_LISTEN: '', STOA_OPENAI_API_KEY: '', STOA_OPENAI_API_KEY_FILE: '' },
    options,
  );
  assert.equal(settings.listen.port, 8080);
  assert.deepEqual(origins.get('STOA_LISTEN'), { kind: 'default' });
  assert.equal(settings.openaiApiKey, null);
});

test('NAME_FILE reads the value from a file, without the line end', () => {
  const path = join(directory, 'key');
  writeFileSync(path, 'sk-upstream\r\n');
  const { settings, origins, warnings } = loadSettings({ STOA_OPENAI_API_KEY_FILE: path }, options);
  assert.equal(settings.openaiApiKey, 'sk-upstream');
  assert.deepEqual(origins.get('STOA_OPENAI_API_KEY'), { kind: 'file', path });
  assert.deepEqual(warnings, []);
});

test('a profile that comes from a file counts for the defaults and the refusals', () => {
  const path = join(directory, 'profile');
  writeFileSync(path, 'production\n');
  assert.ok(faultNames({ STOA_PROFILE_FILE: path }).includes('STOA_DATABASE_URL'));
});

test('a setting whose own name ends in _FILE is read as itself, not as the file of another', () => {
  const { settings, warnings } = loadSettings({ STOA_SCRIPTED_FILE: '/rules.yaml' }, options);
  assert.equal(settings.scriptedFile, '/rules.yaml');
  assert.deepEqual(warnings, []);
});

test('NAME and NAME_FILE together are a fault, as is a file that is missing, empty or too large', () => {
  const empty = join(directory, 'empty');
  writeFileSync(empty, '\n');
  const large = join(directory, 'large');
  writeFileSync(large, 'x'.repeat(70_000));
  assert.deepEqual(faultNames({ STOA_OPENAI_API_KEY: 'a', STOA_OPENAI_API_KEY_FILE: empty }), [
    'STOA_OPENAI_API_KEY',
  ]);
  assert.deepEqual(faultNames({ STOA_OPENAI_API_KEY_FILE: empty }), ['STOA_OPENAI_API_KEY_FILE']);
  assert.deepEqual(faultNames({ STOA_OPENAI_API_KEY_FILE: large }), ['STOA_OPENAI_API_KEY_FILE']);
  const [missing] = faultsOf({ STOA_OPENAI_API_KEY_FILE: join(directory, 'none') });
  assert.match(missing?.wrong ?? '', /ENOENT/);
});

test('all faults come in one report', () => {
  const names = faultNames({
    STOA_LISTEN: 'nowhere',
    STOA_LOG_LEVEL: 'loud',
    STOA_DRAIN_DELAY_MS: '-1',
    STOA_BODY_LIMIT_BYTES: '20 MB',
    STOA_OPENAI_BASE_URL: 'ftp://models/v1',
    STOA_TRUSTED_PROXIES: '10.0.0.0/8,10.0.0.0/33',
    STOA_DEMO_TENANT: 'maybe',
  });
  assert.deepEqual(names.sort(), [
    'STOA_BODY_LIMIT_BYTES',
    'STOA_DEMO_TENANT',
    'STOA_DRAIN_DELAY_MS',
    'STOA_LISTEN',
    'STOA_LOG_LEVEL',
    'STOA_OPENAI_BASE_URL',
    'STOA_TRUSTED_PROXIES',
  ]);
});

const badValues: readonly (readonly [string, string])[] = [
  ['STOA_LISTEN', '8080'],
  ['STOA_LISTEN', 'host:70000'],
  ['STOA_LISTEN', '[127.0.0.1]:80'],
  ['STOA_LISTEN', '::1:80'],
  ['STOA_LISTEN', 'http://host:80'],
  ['STOA_DRAIN_DELAY_MS', '1e3'],
  ['STOA_DRAIN_DELAY_MS', '0x10'],
  ['STOA_DRAIN_DELAY_MS', '5s'],
  ['STOA_DRAIN_DELAY_MS', '120001'],
  ['STOA_OPENAI_MAX_CONCURRENCY', '0'],
  ['STOA_OPENAI_MAX_CONCURRENCY', '2.5'],
  ['STOA_BODY_LIMIT_BYTES', '1TiB'],
  ['STOA_BODY_LIMIT_BYTES', '1023'],
  ['STOA_MASTER_KEY', Buffer.alloc(31, 1).toString('base64')],
  ['STOA_MASTER_KEY', 'not base64 at all!'],
  ['STOA_OPENAI_API_KEY', 'two\nlines'],
  ['STOA_PUBLIC_URL', 'example.org'],
  ['STOA_DATABASE_URL', 'mysql://db/stoa'],
  ['STOA_TRUSTED_PROXIES', 'proxy.internal'],
  ['STOA_PROFILE', 'prod'],
];

for (const [name, value] of badValues) {
  test(`${name}=${JSON.stringify(value)} is refused with what is expected`, () => {
    const fault = faultsOf({ [name]: value }).find((candidate) => candidate.name === name);
    assert.ok(fault);
    assert.notEqual(fault.expected, '');
  });
}

test('sizes take KiB, MiB and GiB', () => {
  const { settings } = loadSettings(
    { STOA_BODY_LIMIT_BYTES: '2MiB', STOA_JOURNAL_MAX_BYTES: '4GiB' },
    options,
  );
  assert.equal(settings.bodyLimitBytes, 2 * 1024 * 1024);
  assert.equal(settings.journalMaxBytes, 4 * 1024 ** 3);
});

test('a base URL loses its trailing slashes', () => {
  assert.equal(
    loadSettings({ STOA_OPENAI_BASE_URL: 'http://h:1/v1//' }, options).settings.openaiBaseUrl,
    'http://h:1/v1',
  );
});

test('no report ever holds the value of a secret', () => {
  const secret = 'hunter2hunter2';
  for (const declaration of settingTable) {
    const wide: SettingDeclaration = declaration;
    if (wide.isSecret !== true) continue;
    for (const value of [secret, `${secret}:x`, `ftp://${secret}:${secret}@h/`, `${secret}\n`]) {
      for (const base of [{}, production]) {
        const faults = JSON.stringify(faultsOf({ ...base, [declaration.name]: value }));
        assert.ok(!faults.includes(secret), `${declaration.name} ${faults}`);
      }
    }
  }
});

test('a report of faults also names what may be their cause: a misspelt name', () => {
  assert.throws(
    () => loadSettings({ ...production, STOA_MASTER_KEY: undefined, STOA_MASTERKEY: 'x' }, options),
    (error) =>
      error instanceof AppError &&
      /STOA_MASTER_KEY: it is missing.*\nSTOA_MASTERKEY is no setting; did you mean STOA_MASTER_KEY\?/s.test(
        error.message,
      ),
  );
});

test('an unknown name warns with the nearest known one', () => {
  const { warnings } = loadSettings(
    { STOA_LISTNE: 'x', STOA_DATABSE_URL_FILE: 'x', STOA_QUITE_SOMETHING_ELSE: 'x', STOA_LOGLEVEL: 'x' },
    options,
  );
  assert.deepEqual(warnings, [
    'STOA_DATABSE_URL_FILE is no setting; did you mean STOA_DATABASE_URL_FILE?',
    'STOA_LISTNE is no setting; did you mean STOA_LISTEN?',
    'STOA_LOGLEVEL is no setting; did you mean STOA_LOG_LEVEL?',
    'STOA_QUITE_SOMETHING_ELSE is no setting.',
  ]);
});

test('what Kubernetes injects for Services, and what the command line reads, is passed over in silence', () => {
  const names = [
    'STOA_PORT',
    'STOA_SERVICE_HOST',
    'STOA_SERVICE_PORT',
    'STOA_SERVICE_PORT_HTTP_ADMIN',
    'STOA_PORT_8080_TCP',
    'STOA_PORT_8080_TCP_ADDR',
    'STOA_PORT_8080_TCP_PORT',
    'STOA_PORT_8080_TCP_PROTO',
    'STOA_X_TCP_Y',
    'STOA_GATEWAY_PORT',
    'STOA_GATEWAY_SERVICE_HOST',
    'STOA_GATEWAY_PORT_53_UDP_ADDR',
    'STOA_URL',
    'STOA_KEY',
    'PATH',
  ];
  const environment = Object.fromEntries(names.map((name) => [name, 'tcp://10.0.0.1:8080']));
  assert.deepEqual(loadSettings(environment, options).warnings, []);
});

test('a setting that nothing reads yet says so', () => {
  assert.deepEqual(loadSettings({ STOA_CHROMA_URL: 'http://c' }, options).warnings, [
    'STOA_CHROMA_URL is set, but this version does not use it yet.',
  ]);
});

test('an address of NATS that could not be used is a fault, and none of its password is told', () => {
  for (const address of [
    'nats://user:pa55word@h/x',
    'nats://user:pa55word@h?tls=1',
    'ws://user:pa55word@h',
  ]) {
    const faults = faultNames({ STOA_NATS_URL: address });
    assert.deepEqual(faults, ['STOA_NATS_URL'], address);
  }
  for (const address of ['nats://h', 'nats://h:4222/', 'nats://t0ken@h', 'tls://user:pass@h']) {
    assert.deepEqual(faultNames({ STOA_NATS_URL: address }), [], address);
  }
  assert.deepEqual(faultNames({ STOA_NATS_STREAM: 'a.b' }), ['STOA_NATS_STREAM']);
  assert.deepEqual(faultNames({ STOA_NATS_SUBJECT: 'a.>' }), ['STOA_NATS_SUBJECT']);
  assert.deepEqual(faultNames({ STOA_NATS_SUBJECT: '$JS.a' }), ['STOA_NATS_SUBJECT']);
  assert.deepEqual(faultNames({ STOA_NATS_REPLICAS: '6' }), ['STOA_NATS_REPLICAS']);
});

test('an address of Redis that could not be used is a fault, and none of its password is told', () => {
  for (const address of [
    'redis://user:pa55word@h/zero',
    'redis://user:pa55word@h/0#x',
    'redis://user:pa55word@h?ca=/ca.pem',
    'rediss://user:pa55word@h?rejectUnauthorized=false',
    'rediss://user:pa55word@h?cert=/c.pem',
    'redis://user:pa55%word@h',
    'redis:///0',
  ]) {
    assert.deepEqual(faultNames({ STOA_REDIS_URL: address }), ['STOA_REDIS_URL'], address);
    assert.throws(
      () => loadSettings({ STOA_REDIS_URL: address }, options),
      (error: unknown) => error instanceof Error && !error.message.includes('pa55'),
    );
  }
  for (const address of [
    'redis://h',
    'redis://:x@[::1]:1/3',
    'rediss://h/?ca=/ca.pem&servername=redis.example',
  ])
    assert.deepEqual(loadSettings({ STOA_REDIS_URL: address }, options).warnings, []);
  assert.deepEqual(faultNames({ ...production, STOA_REDIS_URL: 'redis://:Changeme@h' }), ['STOA_REDIS_URL']);
});

test("a provider's address holds no credential, query or fragment", () => {
  for (const address of [
    'https://user:pw@h/v1',
    'https://token@h/v1',
    'https://h/v1?key=x',
    'https://h/v1#x',
  ]) {
    assert.deepEqual(faultNames({ STOA_OPENAI_BASE_URL: address }), ['STOA_OPENAI_BASE_URL'], address);
  }
  assert.deepEqual(faultNames({ STOA_OPENAI_BASE_URL: 'https://h:1/v1/' }), []);
});

test('the settings in effect are printed with origins, and without secrets', () => {
  const environment = {
    ...production,
    STOA_OPENAI_API_KEY: 'sk-very-secret',
    STOA_CHROMA_URL: 'https://user:pa55word@models/v1?api_key=qqq111',
    STOA_NATS_URL: 'nats://t0ken@events:4222',
    STOA_LISTEN: '[::]:80',
    STOA_TRUSTED_PROXIES: '10.0.0.0/8, ::1',
  };
  const loaded = loadSettings(environment, options);
  const text = printConfig(loaded, { origins: true });
  const json: unknown = JSON.parse(printConfig(loaded, { origins: true, json: true }));
  for (const output of [
    text,
    JSON.stringify(json),
    printConfig(loaded),
    printConfig(loaded, { json: true }),
  ]) {
    for (const secret of [
      'sk-very-secret',
      'pa55word',
      'qqq111',
      't0ken',
      'q8xN2aLr5',
      production.STOA_MASTER_KEY,
    ]) {
      assert.ok(!output.includes(secret), secret);
    }
  }
  assert.match(text, /^STOA_LISTEN=\[::\]:80 {2}# environment$/m);
  assert.match(text, /^STOA_DATABASE_URL=postgres:\/\/tenant:\*\*\*@db\/stoa {2}# environment$/m);
  assert.match(text, /^STOA_TRUSTED_PROXIES=10\.0\.0\.0\/8,::1 /m);
  assert.match(text, /^STOA_MASTER_KEY=\*\*\* {2}# environment$/m);
  assert.match(text, /^STOA_LOG_LEVEL=info {2}# default$/m);
  assert.match(text, /^# STOA_REDIS_URL is unset {2}# default$/m);
  assert.ok(typeof json === 'object' && json !== null && 'STOA_LOG_LEVEL' in json);
  assert.deepEqual(json.STOA_LOG_LEVEL, { value: 'info', origin: 'default' });
});

test("traces are on only where OpenTelemetry's own variables name a collector", () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
  assert.equal(isTracingConfigured({}), false);
  assert.equal(isTracingConfigured({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }), false);
  assert.equal(isTracingConfigured(endpoint), true);
  assert.equal(
    isTracingConfigured({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/v1/traces' }),
    true,
  );
  assert.equal(isTracingConfigured({ ...endpoint, OTEL_SDK_DISABLED: 'true' }), false);
  assert.equal(isTracingConfigured({ ...endpoint, OTEL_TRACES_EXPORTER: 'none' }), false);
});
