/** A PostgreSQL and a NATS of a load run's own, so that other programs' transactions don't hold its log back. */
import path from 'node:path';
import { missingPrograms, ownNats, ownPostgres } from '../failure/servers.ts';
import { start } from './processes.ts';

/**
 * Runs `work` with the environment that points a script at servers of its own; at those of this machine where the programs
 * are not installed, or where the caller has named its own.
 */
async function withOwnServers(
  work: (environment: Readonly<Record<string, string>>, which: string) => Promise<void>,
): Promise<void> {
  const isNamed = process.env['STOA_TEST_DATABASE_ADMIN_URL'] !== undefined;
  if (isNamed || missingPrograms().length > 0) {
    await work({}, 'the servers of this machine');
    return;
  }
  const database = await ownPostgres();
  const nats = await ownNats();
  try {
    await work(
      { STOA_TEST_DATABASE_ADMIN_URL: database.url, STOA_TEST_NATS_PORT: String(nats.port) },
      'servers of its own',
    );
  } finally {
    await Promise.all([database.dispose(), nats.dispose()]);
  }
}

const script = path.join(
  import.meta.dirname,
  '../../server/src/platform/events/testing/measure-consumers.ts',
);

/** Takes a figure of consumers of events with this process's options; its table goes to the standard output. */
export async function measureConsumers(figure: 'latency' | 'backlog'): Promise<void> {
  await withOwnServers(async (environment, which) => {
    process.stdout.write(`on ${which}\n`);
    const child = start(script, ['--figure', figure, ...process.argv.slice(2)], environment);
    child.stdout?.pipe(process.stdout);
    process.exitCode = await new Promise<number>((resolve) => {
      child.once('exit', (code) => resolve(code ?? 1));
    });
  });
}
