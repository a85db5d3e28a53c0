/**
 * For every table and partition of the schema tenant and every verb: whoever has no tenant, a malformed tenant or
 * another tenant sees and changes no row. Random statements from a printed seed (STOA_TEST_SEED repeats a run); all
 * verbs are granted first, so that row security is what holds, and the same is tried with the grants as they are.
 */

import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { migrationSets } from '../../app/migrations.ts';
import { testedAdapters } from '../index.ts';
import { allowAnyRows, insertOf, type TenantTable, tenantTables } from './sample-rows.ts';
import { openAsSuperuser, rolledBack, type Row, type SuperuserSession } from './superuser.ts';

const seed = Number(process.env['STOA_TEST_SEED'] ?? randomInt(2 ** 31));
const rounds = 12;
const verbs = ['select', 'insert', 'update', 'delete'] as const;
type Verb = (typeof verbs)[number];

/** mulberry32: small, seeded, good enough to choose with. */
function randomOf(start: number): <T>(choices: readonly T[]) => T {
  let state = start;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  return (choices) => {
    const chosen = choices[Math.floor(next() * choices.length)];
    if (chosen === undefined) throw new Error('nothing to choose from');
    return chosen;
  };
}

/** Row security or a grant; a tenant that is no UUID. Anything else would be a statement that tries nothing. */
const expectedRefusals: ReadonlySet<string> = new Set(['42501', '22P02']);

interface Outcome {
  /** What the statement answered, or null where it was refused. */
  readonly rows: readonly Row[] | null;
}

class Arena {
  readonly victim = randomUUID();
  readonly intruder = randomUUID();
  readonly #session: SuperuserSession;

  constructor(session: SuperuserSession) {
    this.#session = session;
  }

  /** Two rows for each of the two tenants, and all verbs for everybody where `isGranted`. */
  async seed(table: TenantTable, isGranted: boolean): Promise<void> {
    await allowAnyRows(this.#session);
    for (const tenantId of [this.victim, this.intruder]) {
      const { text, values } = insertOf(table, tenantId);
      await this.#session.run(text, values);
    }
    if (isGranted)
      await this.#session.run(`grant select, insert, update, delete on ${table.name} to stoa_tenant`);
  }

  async victimsRows(table: TenantTable): Promise<string> {
    const [row] = await this.#session.run(
      `select count(*)::text || md5(coalesce(string_agg(x::text, '|' order by x::text), '')) as state
       from ${table.name} x where tenant_id = $1`,
      [this.victim],
    );
    return String(row?.['state']);
  }

  /** Runs one statement as the tenant login with the given identity (null: none was ever set). */
  async asTenant(identity: string | null, text: string, values: readonly string[]): Promise<Outcome> {
    await this.#session.run('savepoint attempt; set local role stoa_tenant');
    try {
      if (identity !== null)
        await this.#session.run(`select set_config('stoa.tenant', $1, true)`, [identity]);
      const rows = await this.#session.run(text, values);
      await this.#session.run('reset role; release savepoint attempt');
      return { rows };
    } catch (error) {
      const state: unknown = error instanceof Error && 'code' in error ? error.code : null;
      assert.ok(typeof state === 'string' && expectedRefusals.has(state), `${text}: ${String(error)}`);
      await this.#session.run('rollback to savepoint attempt; release savepoint attempt');
      return { rows: null };
    } finally {
      await this.#session.run(`reset role; select set_config('stoa.tenant', '', true)`);
    }
  }
}

function statement(
  verb: Verb,
  table: TenantTable,
  arena: Arena,
  choose: <T>(choices: readonly T[]) => T,
): { readonly text: string; readonly values: readonly string[] } {
  const victim = arena.victim;
  const where = choose([
    'true',
    `tenant_id = '${victim}'`,
    `tenant_id is not null`,
    `tenant_id <> '${arena.intruder}'`,
    `tenant_id in (select tenant_id from ${table.name})`,
    `true or tenant_id = '${victim}'`,
  ]);
  const column = choose(table.columns).name;
  switch (verb) {
    case 'select':
      return { text: `select tenant_id::text as tenant_id from ${table.name} where ${where}`, values: [] };
    case 'insert': {
      const insert = insertOf(table, victim);
      const suffix = choose(['', ' on conflict do nothing', ' returning tenant_id::text as tenant_id']);
      return { text: insert.text + suffix, values: insert.values };
    }
    case 'update': {
      const change = choose([
        `"${column}" = "${column}"`,
        `tenant_id = '${victim}'`,
        `tenant_id = '${arena.intruder}'`,
        `tenant_id = gen_random_uuid()`,
      ]);
      return { text: `update ${table.name} set ${change} where ${where}`, values: [] };
    }
    case 'delete':
      return {
        text: `delete from ${table.name} where ${where} returning tenant_id::text as tenant_id`,
        values: [],
      };
  }
}

const malformed = (arena: Arena): readonly string[] => [
  'x',
  ' ',
  `${arena.victim}'`,
  `' or true --`,
  `{${arena.victim}`,
  `${arena.victim},${arena.intruder}`,
  '%',
  'null',
  arena.victim.slice(0, -1),
];

for (const adapter of testedAdapters()) {
  describe(`row security under random statements, on ${adapter}, seed ${seed}`, () => {
    let session: SuperuserSession;
    let tables: readonly TenantTable[] = [];
    before(async () => {
      session = await openAsSuperuser(adapter, migrationSets);
      tables = await tenantTables(session);
    });
    after(() => session.close());

    test('there are tables to try', () => {
      assert.ok(tables.some(({ name }) => name === 'tenant.tenants'));
      assert.ok(tables.every(({ columns }) => columns.some(({ name }) => name === 'tenant_id')));
    });

    for (const verb of verbs) {
      test(`nobody ${verb}s a row of a tenant that is not theirs`, async (context) => {
        context.diagnostic(`STOA_TEST_SEED=${seed}`);
        const choose = randomOf(seed + verbs.indexOf(verb));
        for (const table of tables) {
          await rolledBack(session, async () => {
            const arena = new Arena(session);
            await arena.seed(table, choose([true, true, false]));
            const untouched = await arena.victimsRows(table);
            for (let round = 0; round < rounds; round += 1) {
              const identity = choose([null, '', arena.intruder, randomUUID(), choose(malformed(arena))]);
              const { text, values } = statement(verb, table, arena, choose);
              const tried = `${text} as ${JSON.stringify(identity)}`;
              const { rows } = await arena.asTenant(identity, text, values);
              const foreign = (rows ?? []).filter((row) => row['tenant_id'] !== identity);
              assert.deepEqual(foreign, [], tried);
              assert.equal(await arena.victimsRows(table), untouched, tried);
            }
          });
        }
      });
    }

    test('the same statements reach the rows of their own tenant, so that the test can see', async () => {
      for (const table of tables) {
        await rolledBack(session, async () => {
          const arena = new Arena(session);
          await arena.seed(table, true);
          const read = await arena.asTenant(
            arena.victim,
            `select tenant_id::text as tenant_id from ${table.name}`,
            [],
          );
          assert.deepEqual(read.rows, [{ tenant_id: arena.victim }], table.name);
          const removed = await arena.asTenant(
            arena.victim,
            `delete from ${table.name} returning tenant_id::text as tenant_id`,
            [],
          );
          assert.deepEqual(removed.rows, [{ tenant_id: arena.victim }], table.name);
        });
      }
    });

    test('a policy weakened in one table is noticed', async () => {
      await rolledBack(session, async () => {
        const table = tables.find(({ name }) => name === 'tenant.tenants');
        assert.ok(table !== undefined);
        await session.run('alter policy stoa_tenant_rows on tenant.tenants using (true) with check (true)');
        const arena = new Arena(session);
        await arena.seed(table, true);
        const untouched = await arena.victimsRows(table);
        await arena.asTenant(arena.intruder, `delete from ${table.name}`, []);
        assert.notEqual(await arena.victimsRows(table), untouched);
      });
    });
  });
}
