import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profiles } from '@stoa/contracts';
import { type Environment, loadSettings } from './config.ts';
import { faultNames, faultsOf, options, production } from './config.harness.ts';

test('rules between settings: the logins come together, ceilings hold, two listeners need two addresses', () => {
  assert.deepEqual(faultNames({ STOA_OPERATOR_DATABASE_URL: 'postgres://o@db/x' }), [
    'STOA_DATABASE_URL',
    'STOA_SYSTEM_DATABASE_URL',
  ]);
  assert.deepEqual(faultNames({ STOA_MIGRATION_DATABASE_URL: 'postgres://m@db/x' }), [
    'STOA_DATABASE_URL',
    'STOA_OPERATOR_DATABASE_URL',
    'STOA_SYSTEM_DATABASE_URL',
  ]);
  assert.deepEqual(faultNames({ STOA_DATABASE_URL: 'postgres://root@db/x' }), []);
  assert.deepEqual(faultNames({ STOA_BODY_LIMIT_BYTES: '300MiB' }), ['STOA_BODY_LIMIT_BYTES']);
  assert.deepEqual(faultNames({ STOA_REQUEST_TIMEOUT_MS: '1000' }), ['STOA_HEADERS_TIMEOUT_MS']);
  assert.deepEqual(faultNames({ STOA_JOURNAL_MAX_BYTES: '1MiB' }), ['STOA_JOURNAL_SEGMENT_BYTES']);
  assert.deepEqual(faultNames({ STOA_ADMIN_LISTEN: '127.0.0.1:8080' }), ['STOA_ADMIN_LISTEN']);
  assert.deepEqual(faultNames({ STOA_ADMIN_LISTEN: '127.0.0.1:0', STOA_LISTEN: '127.0.0.1:0' }), []);
});

test('a stream of NATS that outlives the event log is refused, by default values too, and only where there is NATS', () => {
  const nats = { STOA_NATS_URL: 'nats://events:4222' };
  assert.deepEqual(faultNames({ ...nats, STOA_NATS_MAX_AGE_DAYS: '8' }), ['STOA_NATS_MAX_AGE_DAYS']);
  assert.deepEqual(faultNames({ ...nats, STOA_RETENTION_EVENTS_DAYS: '6' }), ['STOA_NATS_MAX_AGE_DAYS']);
  assert.deepEqual(faultNames({ ...nats, STOA_NATS_MAX_AGE_DAYS: '8', STOA_RETENTION_EVENTS_DAYS: '8' }), []);
  assert.deepEqual(faultNames({ STOA_NATS_MAX_AGE_DAYS: '8' }), []);
});

test('production without its secrets and servers is refused, each missing one named', () => {
  assert.deepEqual(faultNames({ STOA_PROFILE: 'production' }).sort(), [
    'STOA_DATABASE_URL',
    'STOA_MASTER_KEY',
    'STOA_OPERATOR_DATABASE_URL',
    'STOA_SYSTEM_DATABASE_URL',
  ]);
});

test('a process that only serves is not asked for the login that owns the schema, in either profile', () => {
  for (const profile of profiles) {
    const { STOA_MIGRATION_DATABASE_URL: _, ...serving } = { ...production, STOA_PROFILE: profile };
    assert.deepEqual(faultNames(serving), []);
    assert.equal(loadSettings(serving, options).settings.migrationDatabaseUrl, null);
  }
});

const refusedEverywhere: Readonly<Record<string, Environment>> = {
  'a master key of equal bytes': { STOA_MASTER_KEY: Buffer.alloc(32, 7).toString('base64') },
  'a master key that counts up': {
    STOA_MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64'),
  },
  'a master key of few different bytes': {
    STOA_MASTER_KEY: Buffer.from('abacabadabacabaeabacabadabacabaf').toString('base64'),
  },
  'a short cluster secret': { STOA_CLUSTER_SECRET: 'abcdefghijklmnopqrstuvwxyz12345' },
  'a cluster secret of few letters': { STOA_CLUSTER_SECRET: 'ab'.repeat(40) },
  'a previous cluster secret that is short': {
    STOA_CLUSTER_SECRET_PREVIOUS: 'short',
    STOA_CLUSTER_SECRET: 'Zk3vQ8mR1xT6bY9cL4nW7pD2sF5gH0jAu/V+tE2wKi8=',
  },
};

for (const [what, environment] of Object.entries(refusedEverywhere)) {
  test(`${what} is refused in either profile`, () => {
    const [name = ''] = Object.keys(environment);
    for (const profile of profiles)
      assert.deepEqual(faultNames({ ...production, ...environment, STOA_PROFILE: profile }), [name]);
  });
}

const refusedInProduction: Readonly<Record<string, Environment>> = {
  'the demo tenant': { STOA_DEMO_TENANT: 'true' },
  'the scripted provider': { STOA_SCRIPTED_FILE: '/rules.yaml' },
  'a password from a tutorial': { STOA_DATABASE_URL: 'postgres://tenant:Postgres@db/stoa' },
  'a password that is the login': { STOA_SYSTEM_DATABASE_URL: 'postgres://sys:sys@db/stoa' },
  'two doors under one login': { STOA_SYSTEM_DATABASE_URL: production.STOA_OPERATOR_DATABASE_URL },
};

for (const [what, environment] of Object.entries(refusedInProduction)) {
  test(`production refuses ${what}; development takes it`, () => {
    const [name = ''] = Object.keys(environment);
    assert.deepEqual(faultNames({ ...production, ...environment }), [name]);
    assert.deepEqual(faultNames({ ...production, ...environment, STOA_PROFILE: 'development' }), []);
  });
}

const clusterSecret = 'Zk3vQ8mR1xT6bY9cL4nW7pD2sF5gH0jAu/V+tE2wKi8=';

test('what needs the secret of the cluster is refused without it', () => {
  const needing = {
    STOA_CLUSTER_SECRET_PREVIOUS: 'hT5qWm0ZcR8vKx2LpJ7nYbE4sGdU9fAoI1t6QyXwB3M=',
    STOA_CLUSTER_LISTEN: '127.0.0.1:8082',
    STOA_ROLE_URLS: 'control=http://10.0.0.5:8082',
  };
  for (const [name, value] of Object.entries(needing)) {
    assert.deepEqual(faultNames({ [name]: value }), [name]);
    assert.deepEqual(faultNames({ [name]: value, STOA_CLUSTER_SECRET: clusterSecret }), []);
  }
});

test('the two secrets of a rotation differ, and the three listeners have addresses of their own', () => {
  const secrets = { STOA_CLUSTER_SECRET: clusterSecret, STOA_CLUSTER_SECRET_PREVIOUS: clusterSecret };
  assert.deepEqual(faultNames(secrets), ['STOA_CLUSTER_SECRET_PREVIOUS']);
  for (const address of ['127.0.0.1:8080', '127.0.0.1:8081']) {
    const environment = { STOA_CLUSTER_SECRET: clusterSecret, STOA_CLUSTER_LISTEN: address };
    assert.deepEqual(faultNames(environment), ['STOA_CLUSTER_LISTEN']);
  }
});

test('STOA_ROLE_URLS names roles that there are, each with addresses that are only that', () => {
  const faultOf = (text: string): string | undefined =>
    faultsOf({ STOA_CLUSTER_SECRET: clusterSecret, STOA_ROLE_URLS: text })[0]?.wrong;
  assert.equal(faultOf('control=http://a:1, control=https://b,gateway=http://[::1]:3/'), undefined);
  assert.match(faultOf('http://a:1') ?? '', /not role=url/);
  assert.match(faultOf('kitchen=http://a:1') ?? '', /no role named kitchen; the roles are gateway, control/);
  for (const url of ['ftp://a', 'a:1', 'http://a/path', 'http://me:pw@a', 'http://a?x', '']) {
    assert.match(faultOf(`control=${url}`) ?? '', /the URL of control/, url);
  }
  assert.match(faultOf('control=http://a:1,control=http://a:1/') ?? '', /the same URL twice/);
});
