/** What every adapter of the database port does with migrations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import type { Database } from '../index.ts';
import { hasCode, type MigrationFolder, one, probeSql } from './probes.ts';

export function describeMigrations(subject: () => Database, folder: () => MigrationFolder): void {
  const migrate = (): Promise<unknown> => subject().migrate([folder().set]);

  test('migrating again applies nothing', async () => {
    assert.deepEqual((await subject().migrate([folder().set])).applied, []);
    assert.equal(await subject().schemaState([folder().set]), 'current');
  });

  test('a new file is behind, is applied once, and two that migrate at once do it once', async () => {
    await folder().write('0002-more.sql', 'alter table tenant.probes add column note text;');
    assert.equal(await subject().schemaState([folder().set]), 'behind');
    const reports = await Promise.all([subject().migrate([folder().set]), subject().migrate([folder().set])]);
    assert.deepEqual(
      reports.flatMap((report) => report.applied),
      [{ module: 'test/probes', number: 2, name: 'more', phase: 'expand' }],
    );
  });

  test('a file that fails leaves nothing behind, and what is right is applied after it was corrected', async () => {
    await folder().write('0003-broken.sql', 'create table tenant.half (tenant_id uuid); select 1 / 0;');
    await assert.rejects(
      migrate(),
      (error) => error instanceof AppError && error.message.includes('0003-broken'),
    );
    assert.equal(await subject().schemaState([folder().set]), 'behind');
    const row = await one<{ half: string | null }>(
      subject(),
      sql`select to_regclass('tenant.half')::text as half`,
    );
    assert.equal(row.half, null);
    await folder().remove('0003-broken.sql');
    assert.equal(await subject().schemaState([folder().set]), 'current');
  });

  test('a changed old migration is refused by its name', async () => {
    await folder().write('0001-probes.sql', `${probeSql}\n-- changed`);
    const isRefusal = (error: unknown): boolean =>
      hasCode('migration_changed')(error) &&
      error instanceof Error &&
      error.message.includes('test/probes/0001-probes');
    await assert.rejects(migrate(), isRefusal);
    await assert.rejects(subject().schemaState([folder().set]), isRefusal);
    await folder().write('0001-probes.sql', probeSql.replaceAll('\n', '\r\n'));
    assert.equal(
      await subject().schemaState([folder().set]),
      'current',
      'line ends of a checkout are no change',
    );
    await folder().write('0001-probes.sql', probeSql);
  });

  test('a gap in the numbers is refused', async () => {
    await folder().write('0004-later.sql', 'select 1;');
    await assert.rejects(migrate(), hasCode('migration_changed'));
    await folder().remove('0004-later.sql');
  });

  test('a file says its phase once, in its first line, and no other word than the two', async () => {
    for (const text of ['-- phase: contrakt', '-- Phase: expand', 'select 1;\n-- phase: contract']) {
      await folder().write('0003-phase.sql', `${text}\nselect 1;`);
      await assert.rejects(migrate(), hasCode('migration_changed'));
    }
    await folder().remove('0003-phase.sql');
  });

  test('a contract migration stays pending where it is to be left, the expand migrations after it pass it, and the schema is served without it', async () => {
    await folder().write('0003-less.sql', '-- phase: contract\nalter table tenant.probes drop column note;');
    await folder().write(
      '0004-wider.sql',
      '-- phase: expand\nalter table tenant.probes add column wider text;',
    );
    const less = { module: 'test/probes', number: 3, name: 'less', phase: 'contract' };
    const { applied, pending } = await subject().migrate([folder().set], { contracts: 'leave' });
    assert.deepEqual(
      applied.map(({ name }) => name),
      ['wider'],
    );
    assert.deepEqual(pending, [{ ...less, waitsFor: [] }]);
    const status = await subject().schemaStatus([folder().set]);
    assert.equal(status.state, 'current');
    assert.deepEqual(status.pending, [{ ...less, waitsFor: [] }]);
    assert.deepEqual(status.applied.at(-1)?.name, 'wider');
    const report = await subject().migrate([folder().set]);
    assert.deepEqual([report.applied, report.pending], [[less], []]);
    assert.deepEqual((await subject().schemaStatus([folder().set])).pending, []);
  });

  test('an expand migration that fails after it passed a contract migration names that one', async () => {
    await folder().write(
      '0005-first.sql',
      '-- phase: contract\nalter table tenant.probes drop column wider;',
    );
    await folder().write('0006-again.sql', 'alter table tenant.probes add column wider bigint;');
    await assert.rejects(
      subject().migrate([folder().set], { contracts: 'leave' }),
      (error) => error instanceof AppError && error.publicMessage.includes('test/probes/0005-first'),
    );
    assert.deepEqual(
      (await subject().migrate([folder().set])).applied.map(({ name }) => name),
      ['first', 'again'],
    );
  });

  test('a schema newer by expand migrations is served; one with a contract migration that the code does not know is ahead and is not migrated', async () => {
    await folder().remove('0006-again.sql');
    const { state, applied } = await subject().schemaStatus([folder().set]);
    assert.equal(state, 'current');
    assert.deepEqual(
      applied.filter((row) => !row.isKnown).map(({ name }) => name),
      ['again'],
    );
    assert.deepEqual((await subject().migrate([folder().set])).applied, []);
    await folder().remove('0005-first.sql');
    assert.equal(await subject().schemaState([folder().set]), 'ahead');
    await assert.rejects(
      migrate(),
      (error) =>
        hasCode('schema_ahead')(error) &&
        error instanceof Error &&
        error.message.includes('test/probes/0005-first'),
    );
  });
}
