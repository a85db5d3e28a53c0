/**
 * A process that takes from one limit as fast as it can, for the tests of many processes on one Redis: started with the
 * server's URL, the prefix, the call as JSON, and for how long; says `ready`, begins at the first byte of its input, and
 * writes how many calls were allowed and asked.
 */
import { once } from 'node:events';
import { z } from 'zod';
import { asTenantId, silentLogger, systemClock } from '#kernel';
import { redisAddress } from './redis/address.ts';
import { redisConnection } from './redis/connection.ts';
import { redisLimits } from './redis/limits.ts';

/** For whoever starts it. */
export const limitsProcessFile = import.meta.filename;

export const limitsProcessReport = z.object({ allowed: z.number(), asked: z.number() });

const callShape = z.object({
  tenantId: z.string().transform(asTenantId),
  key: z.string(),
  limit: z.number(),
  periodMs: z.number(),
  burst: z.number(),
  cost: z.number(),
});

async function main([url = '', prefix = '', callText = '', durationMs = '']: string[]): Promise<void> {
  const connection = redisConnection(
    { clock: systemClock, logger: silentLogger, random: Math.random, onCall: () => undefined },
    { address: redisAddress(url), deadlineMs: 10_000 },
  );
  const limits = redisLimits(connection, { prefix });
  const call = callShape.parse(JSON.parse(callText));
  await connection.start();
  process.stdout.write('ready\n');
  await once(process.stdin, 'data');
  const endMs = performance.now() + Number(durationMs);
  let [allowed, asked] = [0, 0];
  const work = async (): Promise<void> => {
    while (performance.now() < endMs) {
      asked += 1;
      if ((await limits.take(call)).isAllowed) allowed += 1;
    }
  };
  await Promise.all(Array.from({ length: 20 }, work));
  await connection.stop();
  process.stdout.write(`${JSON.stringify({ allowed, asked })}\n`);
  process.exit(0);
}

if (import.meta.main) await main(process.argv.slice(2));
