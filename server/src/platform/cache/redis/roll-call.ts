import type { Logger } from '#kernel';
import type { Presence, RollCall } from '../types.ts';
import { numbersIn } from './answers.ts';
import type { RedisConnection } from './connection.ts';
import { redisScript } from './script.ts';

/**
 * Which processes are there: a sorted set by the server's time of each one's last word. A process that says nothing for
 * `forgetAfterMs` is gone. Every word answers with how many there are, and the last answer is what a process goes by while
 * the server is away.
 */
const announceEveryMs = 2_000;
const forgetAfterMs = 10_000;

const announce = redisScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return { redis.call('ZCARD', KEYS[1]) }
`);

export interface RedisRollCallSettings {
  readonly prefix: string;
  readonly logger: Logger;
  /** Milliseconds between two words; default 2,000. */
  readonly everyMs?: number;
}

/** @param processId tells this process from all others */
export function redisRollCall(
  connection: RedisConnection,
  processId: string,
  { prefix, logger, everyMs = announceEveryMs }: RedisRollCallSettings,
): RollCall {
  return {
    join(name): Presence {
      if (!/^[a-z-]{1,64}$/.test(name))
        throw new RangeError('a roll is named by lower-case letters and hyphens');
      const key = `${prefix}roll:${name}`;
      let count: number | null = null;
      let isGone = false;
      let timer: NodeJS.Timeout | undefined;
      let saying: Promise<void> = Promise.resolve();
      const say = async (): Promise<void> => {
        try {
          const answer = await connection.run(announce, [key], [processId, String(forgetAfterMs)]);
          count = numbersIn(answer)[0] ?? count;
        } catch (error) {
          // The connection says so once for an outage; anything else is a fault of ours.
          if (connection.isUp) logger.debug({ err: error }, 'this process could not be announced');
        }
        if (!isGone) timer = setTimeout(begin, everyMs).unref();
      };
      const begin = (): void => {
        saying = say();
      };
      begin();
      return {
        get count() {
          return count;
        },
        async leave() {
          isGone = true;
          clearTimeout(timer);
          await saying;
          await connection.send(['ZREM', key, processId]).catch(() => undefined);
        },
      };
    },
  };
}
