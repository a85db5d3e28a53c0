/** Sequences of calls against one running Stoa, for a time; used by the short run of the tests and by `npm run fuzz`. */
import fc from 'fast-check';
import { startStoa } from '../journeys/stoa-process.ts';
import { stepsOf } from './operations.ts';
import { openSession, type World } from './session.ts';

export interface FuzzOptions {
  readonly seed: number;
  /** Milliseconds after which no new sequence begins. */
  readonly forMs: number;
  /** Calls in one sequence. */
  readonly calls: number;
}

export interface FuzzReport {
  readonly sequences: number;
  /** Calls that were answered with success, by operation. */
  readonly successes: ReadonlyMap<string, number>;
}

/** What broke comes first: the calls that led to it may be very many. */
function brokenRule(result: fc.RunDetails<unknown>): string {
  const { errorInstance, counterexample, seed, counterexamplePath, numShrinks } = result;
  const cause =
    errorInstance instanceof Error ? (errorInstance.stack ?? errorInstance.message) : String(errorInstance);
  const where = `seed ${seed}, path ${counterexamplePath ?? '-'}, shrunk ${numShrinks} times`;
  return `${cause}\n(${where})\nafter ${fc.stringify(counterexample)}`;
}

const script = `
models: [{ id: echo }, { id: vectors, kind: embedding }]
rules: [{ reply: "{{last_user_message}}", tokens: { input: 5, output: 3 } }]
`;

/** @throws what the first sequence that breaks a rule, made as short as it can be, breaks; with its seed and path */
export async function fuzz({ seed, forMs, calls }: FuzzOptions): Promise<FuzzReport> {
  const stoa = await startStoa({ script, env: { STOA_LOG_LEVEL: 'error' } });
  const world: World = { stoa, owners: new Map(), successes: new Map() };
  let sequences = 0;
  try {
    const property = fc.asyncProperty(
      fc.array(stepsOf(), { minLength: 1, maxLength: calls, size: 'max' }),
      async (steps) => {
        const session = await openSession(world);
        sequences += 1;
        for (const step of steps) await session.take(step);
      },
    );
    const result = await fc.check(property, {
      seed,
      numRuns: 1_000_000,
      plugins: [fc.interruptAfterTimeLimit(forMs)],
    });
    if (result.failed) throw new Error(brokenRule(result));
  } finally {
    await stoa.dispose();
  }
  return { sequences, successes: world.successes };
}
