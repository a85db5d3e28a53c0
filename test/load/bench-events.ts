/**
 * `npm run bench:events`: how many events a second the log takes in and gives out, by itself.
 *
 *   npm run bench:events -- [--seconds 5] [--adapter postgres|pglite]
 *
 * On a scratch database of the PostgreSQL at STOA_TEST_DATABASE_ADMIN_URL (default the local one), or on PGlite. What is
 * measured lies inside the server: measure-log.ts in platform/events/testing.
 */
import { join } from 'node:path';
import { start } from './processes.ts';

const script = join(import.meta.dirname, '../../server/src/platform/events/testing/measure-log.ts');
const child = start(script, process.argv.slice(2));
child.stdout?.pipe(process.stdout);
child.once('exit', (code) => {
  process.exitCode = code ?? 1;
});
