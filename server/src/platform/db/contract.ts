/**
 * What every adapter of the database port guarantees, as tests. An adapter's own test file calls this with a way to
 * open an empty, migrated database of its own.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import { describeMigrations } from './testing/migrations.ts';
import {
  endless,
  first,
  hasCode,
  insertProbe,
  MigrationFolder,
  names,
  one,
  second,
} from './testing/probes.ts';
import {
  type Database,
  isPermissionDenied,
  isUniqueViolation,
  type MigrationSet,
  SqlError,
} from './index.ts';

export interface ContractSubject {
  readonly db: Database;
  close(): Promise<void>;
}

/** Short enough to wait for, long enough for a busy machine to compute between two statements. */
export const contractIdleLimitMs = 1000;

/** Opens a database of its own, idle limit `contractIdleLimitMs`, with these migrations applied after the port's own. */
export type OpenSubject = (migrations: readonly MigrationSet[]) => Promise<ContractSubject>;

function describeValues(subject: () => Database): void {
  test('integers beyond 2^53, numerics and money come back exact', async () => {
    const row = await one<Record<string, unknown>>(
      subject(),
      sql`select 9007199254740993::int8 as big, (-9223372036854775808)::int8 as least, ${9007199254740993n}::int8 as sent,
        12345678901234567890123456789012345678::numeric(38,0) as femto, 1.10::numeric as scaled, 7::int4 as small`,
    );
    assert.deepEqual(row, {
      big: 9007199254740993n,
      least: -9223372036854775808n,
      sent: 9007199254740993n,
      femto: '12345678901234567890123456789012345678',
      scaled: '1.10',
      small: 7,
    });
  });

  test('bytes, texts, times, ids and JSON come back as they went in', async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    const text = 'a\'b"c\\d\ne\u{1F600}{},;$1 --';
    const at = new Date('2026-02-28T23:59:59.123Z');
    const row = await one<Record<string, unknown>>(
      subject(),
      sql`select ${bytes}::bytea as bytes, ${text}::text as text, ${at}::timestamptz as at, '1901-01-01 00:00+00'::timestamptz as old,
        '2026-02-28'::date as day, ${first}::uuid as id, ${JSON.stringify([1, { a: null }])}::jsonb as list,
        ${{ b: [true] }}::json as object, ${true}::bool as yes, ${null}::text as nothing, ${1.5}::float8 as half, '12'::xid8 as xid,
        'infinity'::timestamptz as never, ${new Date(-8_640_000_000_000_000)}::timestamptz as ever`,
    );
    assert.deepEqual(row, {
      bytes,
      text,
      at,
      old: new Date('1901-01-01T00:00:00.000Z'),
      day: '2026-02-28',
      id: first,
      list: [1, { a: null }],
      object: { b: [true] },
      yes: true,
      nothing: null,
      half: 1.5,
      xid: '12',
      never: new Date(8_640_000_000_000_000),
      ever: new Date(-8_640_000_000_000_000),
    });
  });

  test('arrays come back with their element types, quotes, NULLs and dimensions', async () => {
    const texts = ['plain', 'with "quotes"', 'back\\slash', '{brace},comma', '', 'NULL', null];
    const row = await one<Record<string, unknown>>(
      subject(),
      sql`select ${texts}::text[] as texts, ${[1n, 9007199254740993n, null]}::int8[] as bigs,
        ${[Uint8Array.of(0, 34, 92, 255)]}::bytea[] as blobs, ${[first, second]}::uuid[] as ids,
        array[[1, 2], [3, 4]]::int4[] as grid, array['{"a":"b,c"}']::jsonb[] as objects, ${[]}::text[] as none`,
    );
    assert.deepEqual(row, {
      texts,
      bigs: [1n, 9007199254740993n, null],
      blobs: [Uint8Array.of(0, 34, 92, 255)],
      ids: [first, second],
      grid: [
        [1, 2],
        [3, 4],
      ],
      objects: [{ a: 'b,c' }],
      none: [],
    });
  });

  test('text that PostgreSQL cannot hold is refused, not altered', async () => {
    for (const text of ['a\0b', '\uD800', 'x\uDFFFy']) {
      await assert.rejects(one(subject(), sql`select ${text}::text as text`), hasCode('invalid_text'));
      await assert.rejects(one(subject(), sql`select ${[text]}::text[] as texts`), hasCode('invalid_text'));
    }
  });

  test('a write says how many rows it changed', async () => {
    await subject().withTenant({ tenantId: first }, async (tx) => {
      await sql`insert into tenant.probes (tenant_id, name) select ${first}, 'n' || i from generate_series(1, 3) i`.execute(
        tx,
      );
      const result = await sql`update tenant.probes set amount = 1 where name in ('n1', 'n2')`.execute(tx);
      assert.equal(result.numAffectedRows, 2n);
      await sql`delete from tenant.probes where name like 'n%'`.execute(tx);
    });
  });
}

function describeTenantDoor(subject: () => Database): void {
  test('two tenants never see or change each other', async () => {
    const db = subject();
    await db.withTenant({ tenantId: first }, (tx) => insertProbe(tx, first, 'same name'));
    await db.withTenant({ tenantId: second }, (tx) => insertProbe(tx, second, 'same name'));
    await db.withTenant({ tenantId: second }, async (tx) => {
      assert.deepEqual(await names(tx), ['same name']);
      await sql`update tenant.probes set amount = 99`.execute(tx);
      await sql`delete from tenant.probes where tenant_id = ${first}`.execute(tx);
    });
    await db.withTenant({ tenantId: first }, async (tx) => {
      const { rows } = await sql`select tenant_id, amount from tenant.probes`.execute(tx);
      assert.deepEqual(rows, [{ tenant_id: first, amount: 0n }]);
    });
    await assert.rejects(
      db.withTenant({ tenantId: first }, (tx) => insertProbe(tx, second, 'planted')),
      isPermissionDenied,
    );
  });

  test('a tenant id that is not a UUID in lower case is refused before a statement is sent', async () => {
    const before = subject().doorCounts().tenant;
    for (const tenantId of [
      '',
      'x',
      `${first}'; drop table tenant.probes; --`,
      first.toUpperCase(),
      `${first} `,
    ]) {
      await assert.rejects(subject().withTenant({ tenantId }, names), hasCode('internal_error'));
    }
    assert.equal(subject().doorCounts().tenant, before);
  });

  test('the tenant of one transaction is not there in the next', async () => {
    const db = subject();
    await db.withTenant({ tenantId: first }, (tx) => insertProbe(tx, first, 'left behind'));
    const { rows } = await db.withSystem('schema', (tx) =>
      sql`select coalesce(current_setting('stoa.tenant', true), '') as tenant, current_user as name`.execute(
        tx,
      ),
    );
    assert.deepEqual(rows, [{ tenant: '', name: 'stoa_system' }]);
    await db.withTenant({ tenantId: first }, (tx) =>
      sql`delete from tenant.probes where name = 'left behind'`.execute(tx),
    );
  });

  test('a transaction rolls back when its callback throws, and passes the error on', async () => {
    const planted = new Error('planted');
    await assert.rejects(
      subject().withTenant({ tenantId: first }, async (tx) => {
        await insertProbe(tx, first, 'rolled back');
        throw planted;
      }),
      (error) => error === planted,
    );
    const left = await subject().withTenant({ tenantId: first }, names);
    assert.ok(!left.includes('rolled back'));
  });

  test('a unique violation can be told from other refusals, by its constraint', async () => {
    await assert.rejects(
      subject().withTenant({ tenantId: first }, async (tx) => {
        await insertProbe(tx, first, 'twice');
        await insertProbe(tx, first, 'twice');
      }),
      (error) => isUniqueViolation(error, 'probes_pkey') && !isUniqueViolation(error, 'another'),
    );
  });

  test('a failed statement that the callback swallowed fails the commit instead of losing the rest', async () => {
    await assert.rejects(
      subject().withTenant({ tenantId: first }, async (tx) => {
        await insertProbe(tx, first, 'lost');
        await sql`select 1 / 0`.execute(tx).catch(() => undefined);
      }),
      hasCode('internal_error'),
    );
  });

  test('a savepoint takes a failed statement back', async () => {
    await subject().withTenant({ tenantId: first }, async (tx) => {
      await sql`savepoint before`.execute(tx);
      await sql`select 1 / 0`.execute(tx).catch(() => undefined);
      await sql`rollback to savepoint before`.execute(tx);
      await insertProbe(tx, first, 'kept');
    });
    await subject().withTenant({ tenantId: first }, (tx) =>
      sql`delete from tenant.probes where name = 'kept'`.execute(tx),
    );
  });

  test('statements of one transaction may be sent at once and run in their order', async () => {
    const results = await subject().withTenant({ tenantId: first }, (tx) =>
      Promise.all(
        Array.from({ length: 20 }, (_, i) => sql<{ i: number }>`select ${i}::int4 as i`.execute(tx)),
      ),
    );
    assert.deepEqual(
      results.map((result) => result.rows[0]?.i),
      Array.from({ length: 20 }, (_, i) => i),
    );
  });

  test('a handle that outlives its door is refused', async () => {
    const kept = await subject().withTenant({ tenantId: first }, async (tx) => ({ tx }));
    await assert.rejects(names(kept.tx), hasCode('internal_error'));
  });

  test('no statement inside a door ends the transaction, changes its identity, or stacks a second one', async () => {
    const refused = [
      'commit',
      'ROLLBACK',
      ' /* x */ begin',
      'reset role',
      'set local role stoa_system',
      `select set_config('role', 'stoa_operator', true)`,
      `select set_config('stoa.tenant', '${second}', true)`,
      'truncate tenant.probes',
      'create table tenant.mine (id int)',
      `do $$ begin perform 1; end $$`,
    ];
    for (const text of refused) {
      await assert.rejects(
        subject().withTenant({ tenantId: first }, (tx) => sql.raw(text).execute(tx)),
        hasCode('internal_error'),
        text,
      );
    }
    await assert.rejects(
      subject().withTenant({ tenantId: first }, (tx) => sql.raw('select 1; select 2').execute(tx)),
      (error) => error instanceof SqlError && error.sqlState === '42601',
    );
  });
}

function describeOtherDoors(subject: () => Database): void {
  test('a door inside a door throws at once, and a door after one does not', async () => {
    const db = subject();
    await assert.rejects(
      db.withTenant({ tenantId: first }, () => db.withTenant({ tenantId: second }, names)),
      hasCode('internal_error'),
    );
    await assert.rejects(
      db.withSystem('schema', () =>
        db.withOperator({ operator: 'system:test' }, 'a test', async () => undefined),
      ),
      hasCode('internal_error'),
    );
    let later: Promise<string[]> | undefined;
    const closed = Promise.withResolvers<void>();
    await db.withTenant({ tenantId: first }, async () => {
      later = closed.promise.then(() => db.withTenant({ tenantId: first }, names));
    });
    closed.resolve();
    assert.ok(
      Array.isArray(await later),
      'work that was started inside a door may open one after it has closed',
    );
  });

  test('the operator sees every tenant, and each use is in the audit with its reason, or not at all', async () => {
    const db = subject();
    const operator = { operator: 'opk_1', requestId: 'req_1', tenantId: second };
    await db.withTenant({ tenantId: second }, (tx) => insertProbe(tx, second, 'seen by the operator'));
    await db.withOperator(operator, 'looking for something', async (tx) => {
      const { rows } = await sql`select name from tenant.probes where name = 'seen by the operator'`.execute(
        tx,
      );
      assert.equal(rows.length, 1);
    });
    await assert.rejects(
      db.withOperator(operator, 'failing', async () => {
        throw new Error('planted');
      }),
    );
    const { rows } = await db.withOperator({ operator: 'opk_2' }, 'reading the audit', (tx) =>
      sql`select actor_id, tenant_id, request_id, reason from platform.operator_audit_entries
        where actor_id = 'opk_1'`.execute(tx),
    );
    assert.deepEqual(rows, [
      { actor_id: 'opk_1', tenant_id: second, request_id: 'req_1', reason: 'looking for something' },
    ]);
  });

  test('a system job outside of its grant throws, also where the role itself may', async () => {
    const db = subject();
    await assert.rejects(
      db.withSystem('leases', (tx) => sql`select module from platform.migrations`.execute(tx)),
      (error) => error instanceof AppError && error.publicMessage.includes('select on platform.migrations'),
    );
    await assert.rejects(
      db.withSystem('schema', (tx) => sql`delete from platform.leases`.execute(tx)),
      hasCode('internal_error'),
    );
    await assert.rejects(
      db.withSystem('leases', (tx) =>
        sql`select platform.make_partitions('tenant.probes', 'day', 1)`.execute(tx),
      ),
      hasCode('internal_error'),
    );
    const before = db.doorCounts().system.schema ?? 0;
    await db.withSystem('schema', (tx) => sql`select module from platform.migrations`.execute(tx));
    assert.equal(db.doorCounts().system.schema, before + 1);
  });
}

function describeTime(subject: () => Database): void {
  test('a statement past its deadline ends for its caller, and the next caller is served', async () => {
    const db = subject();
    const startedAt = performance.now();
    await assert.rejects(
      db.withTenant({ tenantId: first }, (tx) => endless.execute(tx), { deadlineMs: 200 }),
      hasCode('deadline_exceeded'),
    );
    assert.ok(performance.now() - startedAt < 5000);
    assert.equal((await one<{ a: number }>(db, sql`select 1 as a`)).a, 1);
  });

  test('an aborted door rejects with the reason at once, and its transaction is rolled back', async () => {
    const db = subject();
    const controller = new AbortController();
    const reason = new Error('the client went away');
    const inside = Promise.withResolvers<void>();
    const never = Promise.withResolvers<void>();
    const work = db.withTenant(
      { tenantId: first },
      async (tx) => {
        await insertProbe(tx, first, 'aborted');
        inside.resolve();
        await never.promise;
      },
      { signal: controller.signal },
    );
    await inside.promise;
    controller.abort(reason);
    await assert.rejects(work, (error) => error === reason);
    await assert.rejects(db.withTenant({ tenantId: first }, names, { signal: controller.signal }), reason);
    const left = await db.withTenant({ tenantId: first }, names);
    assert.ok(!left.includes('aborted'));
    never.resolve();
  });

  test('a transaction that stands still is rolled back, its door rejects, and the next caller is served', async () => {
    const db = subject();
    const never = Promise.withResolvers<void>();
    const stuck = db.withTenant({ tenantId: first }, async (tx) => {
      await insertProbe(tx, first, 'stuck');
      await never.promise;
    });
    await assert.rejects(stuck, hasCode('deadline_exceeded'));
    const left = await db.withTenant({ tenantId: first }, names);
    assert.ok(!left.includes('stuck'));
    never.resolve();
  });

  test('many doors at once are all served', async () => {
    const db = subject();
    const tenants = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? first : second));
    const seen = await Promise.all(
      tenants.map((tenantId) =>
        db.withTenant({ tenantId }, async (tx) => {
          const { rows } = await sql<{ id: string }>`select current_setting('stoa.tenant') as id`.execute(tx);
          return rows[0]?.id;
        }),
      ),
    );
    assert.deepEqual(seen, tenants);
  });

  test('a deadline outside of its range is refused', async () => {
    for (const deadlineMs of [0, -1, 1.5, Number.NaN, 600_001]) {
      await assert.rejects(
        subject().withTenant({ tenantId: first }, names, { deadlineMs }),
        hasCode('internal_error'),
      );
    }
  });

  test('ping answers', async () => {
    await subject().ping();
  });
}

/** Declares the whole suite under the adapter's name. */
export function describeDatabaseContract(adapter: Database['adapter'], open: OpenSubject): void {
  describe(`the database port on ${adapter}`, () => {
    let subject: ContractSubject;
    let folder: MigrationFolder;
    before(async () => {
      folder = await MigrationFolder.make();
      subject = await open([folder.set]);
    });
    after(async () => {
      await subject.close();
      await folder.remove();
    });
    const db = (): Database => subject.db;
    test('it says which adapter it is', () => {
      assert.equal(db().adapter, adapter);
    });
    describeValues(db);
    describeTenantDoor(db);
    describeOtherDoors(db);
    describeTime(db);
    describeMigrations(db, () => folder);
  });
}
