import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AppError } from '#kernel';
import { openDatabase } from '../open.ts';
import { allCanConnect, setUpRoles, withClient } from './roles.ts';
import { selfSetUp } from './self-set-up.ts';
import { changeUrl, loginUrls, passwordOf, writeUrlsFile } from './urls.ts';

const adminUrl = process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres';
const noPasswords = { tenant: null, operator: null, system: null, migration: null };

function describeSetUp(): void {
  const made: string[] = [];
  let folder: string;
  const newName = (): string => {
    const name = `stoa_setup_${randomBytes(6).toString('hex')}`;
    made.push(name);
    return name;
  };
  const inNew = (): string => changeUrl(adminUrl, { database: newName() });
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'stoa-setup-'));
  });
  after(async () => {
    await withClient(adminUrl, async (client) => {
      for (const name of made) await client.query(`drop database if exists ${name} with (force)`);
    });
    await rm(folder, { recursive: true });
  });

  test('one URL becomes four logins that can migrate, kept in a private file, and found again from it', async () => {
    const url = inNew();
    const file = join(folder, 'one.json');
    const { urls } = await selfSetUp(url, file);
    const db = await openDatabase({ adapter: 'postgres', urls });
    await db.migrate([]);
    assert.equal(await db.schemaState([]), 'current');
    await db.close();
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.deepEqual((await selfSetUp(url, file)).urls, urls);
  });

  test('what is kept for another database, or is not readable, is not used', async () => {
    const file = join(folder, 'other.json');
    await selfSetUp(inNew(), file);
    const { urls } = await selfSetUp(inNew(), file);
    assert.equal(new URL(urls.tenant).pathname, `/${made.at(-1) ?? ''}`);
    await writeFile(file, '{ "place": 1 ');
    assert.ok(
      await allCanConnect((await selfSetUp(changeUrl(adminUrl, { database: made.at(-1) ?? '' }), file)).urls),
    );
  });

  test('several processes may set up at once, also for different databases', async () => {
    const urls = [inNew(), inNew(), inNew()];
    const all = [...urls, ...urls];
    const results = await Promise.all(
      all.map((url, index) => selfSetUp(url, join(folder, `at-once-${index}.json`))),
    );
    for (const result of results) assert.ok(await allCanConnect(result.urls));
  });

  test('nobody but the logins gets into a database that was set up', async () => {
    const url = inNew();
    await selfSetUp(url, join(folder, 'closed.json'));
    const rows = await withClient(url, async (client) => {
      const result = await client.query<{ who: string; what: string }>(
        `select coalesce(r.rolname, 'public') as who, privilege_type as what
         from pg_database d cross join aclexplode(d.datacl) left join pg_roles r on r.oid = grantee
         where datname = current_database() and grantee <> datdba order by 1, 2`,
      );
      return result.rows;
    });
    assert.deepEqual(rows, [
      { who: 'stoa_migration', what: 'CONNECT' },
      { who: 'stoa_migration', what: 'CREATE' },
      { who: 'stoa_operator', what: 'CONNECT' },
      { who: 'stoa_system', what: 'CONNECT' },
      { who: 'stoa_tenant', what: 'CONNECT' },
    ]);
  });

  test('a login that may not create roles is told what to do', async () => {
    const url = inNew();
    const { urls } = await selfSetUp(url, join(folder, 'weak.json'));
    await assert.rejects(
      selfSetUp(urls.migration, join(folder, 'weak-too.json')),
      (error) =>
        error instanceof AppError &&
        error.code === 'invalid_configuration' &&
        error.message.includes('db setup'),
    );
  });

  test('a server that is away is an outage, and what an earlier start kept is used', async () => {
    const away = changeUrl('postgres://root@127.0.0.1:1/x', { database: 'x' });
    const file = join(folder, 'away.json');
    await assert.rejects(
      selfSetUp(away, file),
      (error) => error instanceof AppError && error.code === 'database_unavailable',
    );
    const urls = loginUrls(away, 'x', noPasswords);
    await writeFile(file, JSON.stringify({ place: '127.0.0.1:1/x', urls }));
    assert.deepEqual((await selfSetUp(away, file)).urls, urls);
  });

  test('db setup makes the database, gives every login a new password and says so', async (context) => {
    const probe = inNew();
    const { urls: before } = await selfSetUp(probe, join(folder, 'probe.json'));
    if (!(await allCanConnect(loginUrls(before.tenant, made.at(-1) ?? '', noPasswords)))) {
      context.skip(
        'new passwords would lock out the tests that run beside this one: the server checks passwords',
      );
      return;
    }
    const database = newName();
    const { urls, notices } = await setUpRoles(adminUrl, { database });
    assert.ok(await allCanConnect(urls));
    assert.equal(new Set(Object.values(urls).map(passwordOf)).size, 4);
    assert.ok(notices.some((notice) => notice.includes(`database ${database} was created`)));
    assert.ok(notices.some((notice) => notice.includes('new passwords')));
    const file = join(folder, 'urls.env');
    await writeUrlsFile(file, urls);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.equal((await readFile(file, 'utf8')).split('\n')[0], `STOA_DATABASE_URL=${urls.tenant}`);
  });
}

const skip = process.env['STOA_TEST_SERVICES'] === '1' ? false : 'needs PostgreSQL: npm run test:services';
describe('the logins on a PostgreSQL server', { skip }, describeSetUp);
