import assert from 'node:assert/strict';
import { test } from 'node:test';
import { migrationSets } from '../../app/migrations.ts';
import { testedAdapters } from '../index.ts';
import { catalogBreaches, systemGrantBreaches } from './catalog.ts';
import { openAsSuperuser } from './superuser.ts';

for (const adapter of testedAdapters()) {
  test(`the migrated schema keeps every rule of tenancy, on ${adapter}`, async () => {
    const session = await openAsSuperuser(adapter, migrationSets);
    try {
      assert.deepEqual(await catalogBreaches(session), []);
      assert.deepEqual(await systemGrantBreaches(session), []);
    } finally {
      await session.close();
    }
  });
}
