/**
 * `node test/load/bench-relay.ts`: how fast events go from the log through NATS to a consumer.
 *
 *   node test/load/bench-relay.ts [--events 100000] [--seconds 10]
 *
 * On a scratch database of the PostgreSQL at STOA_TEST_DATABASE_ADMIN_URL and on the local NATS. What is measured lies
 * inside the server: measure-relay.ts in platform/events/testing.
 */
import { join } from 'node:path';
import { start } from './processes.ts';

const script = join(import.meta.dirname, '../../server/src/platform/events/testing/measure-relay.ts');
const child = start(script, process.argv.slice(2));
child.stdout?.pipe(process.stdout);
child.once('exit', (code) => {
  process.exitCode = code ?? 1;
});
