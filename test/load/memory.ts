/**
 * `npm run bench:memory`: whether the gateway role's memory stays flat. Chats and streams at a steady rate through the bare
 * proxy and through Stoa, on an upstream of 60 ms; the resident memory of both, each minute.
 *
 *   npm run bench:memory -- [--minutes 30] [--chats 150] [--streams 30] [--database URL]
 */
import { parseArgs } from 'node:util';
import { openLoop } from './generator.ts';
import { peakMiB, residentMiB } from './processes.ts';
import { withTargets } from './targets.ts';

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    chats: { type: 'string', default: '150' },
    streams: { type: 'string', default: '30' },
    database: {
      type: 'string',
      default: process.env['STOA_DATABASE_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres',
    },
  },
});
const seconds = 60;

await withTargets(
  { embedded: false, database: options.database, tenants: 1 },
  ['--latency', '60', '--interval', '5'],
  async (targets) => {
    process.stdout.write(
      '| minute | target | resident MiB | peak MiB | answered | failures |\n|---|---|---|---|---|---|\n',
    );
    for (let minute = 1; minute <= Number(options.minutes); minute += 1) {
      await Promise.all(
        targets.map(async ({ name, origin, process: child, shots }) => {
          const [chats, streams] = await Promise.all([
            openLoop(origin, shots(false), Number(options.chats), seconds),
            openLoop(origin, shots(true), Number(options.streams), seconds),
          ]);
          const answered = chats.count + streams.count;
          const failures = chats.failures + streams.failures;
          process.stdout.write(
            `| ${minute} | ${name} | ${residentMiB(child).toFixed(0)} | ${peakMiB(child).toFixed(0)} | ${answered} | ${failures} |\n`,
          );
        }),
      );
    }
  },
);
