/** The migrated schema `jobs` holds exactly what the installed pg-boss would make, beside what is ours. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getConstructionPlans } from 'pg-boss';
import { migrationSets } from '../../app/migrations.ts';
import { testedAdapters } from '../index.ts';
import { openAsSuperuser, rolledBack } from './superuser.ts';

const ours = ['named_jobs', 'progress', 'stoa_turns', 'put_job', 'enqueue_own', 'enqueue', 'take_job'];

/** Columns, indexes, constraints, functions, types and the version of one schema, its name taken out. */
function catalogOf(schema: string): string {
  const isOurs = (column: string): string => `${column} ~ '^(${ours.join('|')})(_.*)?$'`;
  return `
    with found (kind, text) as (
      select 'column', c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ||
        case when a.attnotnull then ' not null' else '' end ||
        coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relnamespace = '${schema}'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0
        and not a.attisdropped and not ${isOurs('c.relname')}
      union all
      select 'index', pg_get_indexdef(i.indexrelid)
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where c.relnamespace = '${schema}'::regnamespace and not ${isOurs('c.relname')}
      union all
      select 'constraint', k.conname || ' ' || pg_get_constraintdef(k.oid)
      from pg_constraint k join pg_class c on c.oid = k.conrelid
      where c.relnamespace = '${schema}'::regnamespace and not ${isOurs('c.relname')}
      union all
      select 'function', pg_get_functiondef(p.oid) from pg_proc p
      where p.pronamespace = '${schema}'::regnamespace and not ${isOurs('p.proname')}
      union all
      select 'type', t.typname || ' ' || e.enumlabel || ' ' || e.enumsortorder
      from pg_type t join pg_enum e on e.enumtypid = t.oid where t.typnamespace = '${schema}'::regnamespace
      union all
      select 'partition', c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) from pg_class c
      where c.relnamespace = '${schema}'::regnamespace and c.relkind = 'r' and c.relispartition
      union all
      select 'version', version::text from ${schema}.version
    )
    -- The migration's text has no blanks at the ends of lines.
    select kind || ' ' || regexp_replace(replace(text, '${schema}.', 'X.'), ' +\\n', E'\\n', 'g') as line from found
    where text !~ 'queue_stats_[0-9]{8}'
    order by 1`;
}

const isFrame = (line: string): boolean =>
  /^\s*(BEGIN;|COMMIT;|SET LOCAL .*;|SELECT pg_advisory_xact_lock\(.*;)\s*$/.test(line);

for (const adapter of testedAdapters()) {
  test(`the schema jobs is the one that the installed pg-boss wants, on ${adapter}`, async () => {
    const session = await openAsSuperuser(adapter, migrationSets);
    try {
      await rolledBack(session, async () => {
        const plans = getConstructionPlans('wanted').split('\n');
        await session.run(plans.filter((line) => !isFrame(line)).join('\n'));
        // Names are printed with their schema only where the search_path lacks it.
        await session.run('set local search_path = pg_catalog');
        const lines = async (schema: string): Promise<unknown[]> =>
          (await session.run(catalogOf(schema))).map((row) => row['line']);
        const wanted = await lines('wanted');
        assert.ok(wanted.length > 200);
        assert.deepEqual(await lines('jobs'), wanted);
      });
    } finally {
      await session.close();
    }
  });
}
