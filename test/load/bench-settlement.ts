/**
 * `npm run bench:settlement`: what it costs to write settled records to the database, by itself.
 *
 *   npm run bench:settlement -- [--rounds 5] [--batches 10] [--records 1000] [--services]
 *
 * On PGlite, and with `--services` on PostgreSQL as well (a scratch database at STOA_TEST_DATABASE_ADMIN_URL, default the
 * local one). What is measured lies inside the server: measure-settlement.ts in settlement/testing.
 */
import { join } from 'node:path';
import { start } from './processes.ts';

const script = join(
  import.meta.dirname,
  '../../server/src/services/gateway/settlement/testing/measure-settlement.ts',
);
const args = process.argv.slice(2);
const child = start(
  script,
  args.filter((arg) => arg !== '--services'),
  args.includes('--services') ? { STOA_TEST_SERVICES: '1' } : {},
);
child.stdout?.pipe(process.stdout);
child.once('exit', (code) => {
  process.exitCode = code ?? 1;
});
