import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changeUrl, databaseOf, loginUrls, passwordOf, placeOf } from './urls.ts';

const none = { tenant: null, operator: null, system: null, migration: null };

test('a login is changed and host, port, database and parameters stay', () => {
  const changed = changeUrl('postgres://admin:a%40b@db.example:6543/stoa?sslmode=require', {
    user: 'stoa_tenant',
    password: 'p/w?#@:',
  });
  assert.equal(changed, 'postgres://stoa_tenant:p%2Fw%3F%23%40%3A@db.example:6543/stoa?sslmode=require');
  assert.equal(passwordOf(changed), 'p/w?#@:');
});

test('a URL of a Unix socket carries the login in its parameters', () => {
  const changed = changeUrl('postgres:///stoa?host=/run/postgresql&user=admin&password=x', {
    user: 'stoa_system',
    password: null,
  });
  const { searchParams } = new URL(changed);
  assert.equal(searchParams.get('user'), 'stoa_system');
  assert.equal(searchParams.get('password'), null);
  assert.equal(databaseOf(changed), 'stoa');
});

test('the four URLs differ in their login only, and carry no password where there is none', () => {
  const urls = loginUrls('postgres://admin:secret@h/x', 'stoa', none);
  assert.deepEqual(urls, {
    tenant: 'postgres://stoa_tenant@h/stoa',
    operator: 'postgres://stoa_operator@h/stoa',
    system: 'postgres://stoa_system@h/stoa',
    migration: 'postgres://stoa_migration@h/stoa',
  });
});

test('a place is the same for every login, and another for another port or database', () => {
  assert.equal(placeOf('postgres://a:b@h/x'), placeOf('postgresql://c@h:5432/x?sslmode=disable'));
  assert.notEqual(placeOf('postgres://a@h/x'), placeOf('postgres://a@h:5433/x'));
  assert.notEqual(placeOf('postgres://a@h/x'), placeOf('postgres://a@h/y'));
  assert.equal(databaseOf('postgres://someone@h'), 'someone');
});
