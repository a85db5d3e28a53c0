/**
 * A process that takes estimates from one limit and corrects them a little later, at random and as fast as it can, for the
 * tests of many processes on one Redis: started with the server's URL, the prefix, the rule as JSON, a seed, and for how
 * long; says `ready`, begins at the first byte of its input, and writes what was admitted when, by the server's clock.
 */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { asTenantId, silentLogger, systemClock } from '#kernel';
import { redisAddress } from './redis/address.ts';
import { redisConnection } from './redis/connection.ts';
import { redisLimits } from './redis/limits.ts';

/** For whoever starts it. */
export const windowsProcessFile = import.meta.filename;

export const windowsProcessReport = z.object({
  asked: z.number(),
  admitted: z.array(z.object({ atUs: z.number(), used: z.number() })),
});

const callShape = z.object({
  tenantId: z.string().transform(asTenantId),
  key: z.string(),
  limit: z.number(),
  periodMs: z.number(),
  burst: z.number(),
});

/** Park and Miller's; the seed is all that a run depends on beside the time. */
function randomFrom(seed: number): (below: number) => number {
  let state = (seed % 2_147_483_646) + 1;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

async function main([
  url = '',
  prefix = '',
  callText = '',
  seed = '',
  durationMs = '',
]: string[]): Promise<void> {
  const connection = redisConnection(
    { clock: systemClock, logger: silentLogger, random: Math.random, onCall: () => undefined },
    { address: redisAddress(url), deadlineMs: 10_000 },
  );
  const limits = redisLimits(connection, { prefix });
  const call = callShape.parse(JSON.parse(callText));
  const random = randomFrom(Number(seed));
  await connection.start();
  process.stdout.write('ready\n');
  await once(process.stdin, 'data');
  const endMs = performance.now() + Number(durationMs);
  const admitted: { atUs: number; used: number }[] = [];
  let asked = 0;
  const work = async (): Promise<void> => {
    while (performance.now() < endMs) {
      asked += 1;
      const cost = 1 + random(Math.max(1, Math.ceil(call.burst / 4)));
      const { isAllowed, takenAtUs } = await limits.takeAll([{ ...call, cost }]);
      if (!isAllowed) continue;
      const used = random(cost + 1);
      admitted.push({ atUs: takenAtUs, used });
      if (random(2) === 0) await pause(random(30));
      await limits.correct({ ...call, cost, used, takenAtUs });
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  await connection.stop();
  process.stdout.write(`${JSON.stringify({ asked, admitted })}\n`, () => process.exit(0));
}

if (import.meta.main) await main(process.argv.slice(2));
