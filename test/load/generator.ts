import { Pool } from 'undici';

/** One request of a load run. */
export interface Shot {
  readonly path: string;
  readonly body: string;
  readonly authorization: string;
}

export interface Result {
  readonly count: number;
  readonly failures: number;
  readonly seconds: number;
  /** Milliseconds from the scheduled start to the last byte. */
  readonly totalMs: readonly number[];
  /** Milliseconds from the scheduled start to the first byte of the body. */
  readonly firstByteMs: readonly number[];
}

interface Tally {
  count: number;
  failures: number;
  readonly totalMs: number[];
  readonly firstByteMs: number[];
}

async function fire(pool: Pool, shot: Shot, scheduledAt: number, tally: Tally): Promise<void> {
  try {
    const answer = await pool.request({
      path: shot.path,
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: shot.authorization },
      body: shot.body,
    });
    let firstAt = 0;
    let tail = '';
    for await (const chunk of answer.body) {
      if (firstAt === 0) firstAt = performance.now();
      tail = String(chunk).slice(-16);
    }
    const isWhole = shot.body.includes('"stream":true')
      ? tail.trimEnd().endsWith('[DONE]')
      : tail.endsWith('}');
    if (answer.statusCode !== 200 || !isWhole) throw new Error(`status ${answer.statusCode}`);
    tally.count++;
    tally.firstByteMs.push(firstAt - scheduledAt);
    tally.totalMs.push(performance.now() - scheduledAt);
  } catch {
    tally.failures++;
  }
}

/** Closed loop: `connections` callers, each sending its next request when the last one is answered. */
export async function closedLoop(
  origin: string,
  shots: readonly Shot[],
  connections: number,
  seconds: number,
): Promise<Result> {
  const pool = new Pool(origin, { connections, pipelining: 1 });
  const tally: Tally = { count: 0, failures: 0, totalMs: [], firstByteMs: [] };
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  let next = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      while (performance.now() < until && tally.failures < 1000) {
        const shot = shots[next++ % shots.length];
        if (shot) await fire(pool, shot, performance.now(), tally);
      }
    }),
  );
  const elapsed = (performance.now() - startedAt) / 1000;
  await pool.close();
  return { ...tally, seconds: elapsed };
}

/** Open loop: requests start on a schedule whatever the answers do, so a stall is not hidden. */
export async function openLoop(
  origin: string,
  shots: readonly Shot[],
  perSecond: number,
  seconds: number,
): Promise<Result> {
  const pool = new Pool(origin, { connections: 2_000, pipelining: 1 });
  const tally: Tally = { count: 0, failures: 0, totalMs: [], firstByteMs: [] };
  const startedAt = performance.now();
  const planned = Math.floor(perSecond * seconds);
  const running: Promise<void>[] = [];
  for (let index = 0; index < planned; ) {
    const dueAt = startedAt + (index * 1000) / perSecond;
    if (dueAt > performance.now()) {
      await new Promise((resume) => setTimeout(resume, 1));
      continue;
    }
    const shot = shots[index % shots.length];
    if (shot) running.push(fire(pool, shot, dueAt, tally));
    index++;
  }
  await Promise.all(running);
  await pool.close();
  return { ...tally, seconds: (performance.now() - startedAt) / 1000 };
}

/** The value below which `share` of the sample lies; NaN for an empty one. */
export function quantile(sample: readonly number[], share: number): number {
  const sorted = [...sample].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

export function median(sample: readonly number[]): number {
  return quantile(sample, 0.5);
}
