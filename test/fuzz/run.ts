/** `npm run fuzz -- [--minutes 10] [--seed N] [--calls 120]`: the fuzz of the tests for as long as you like. */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { fuzz } from './fuzz.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    calls: { type: 'string', default: '120' },
  },
});

function numberOf(name: 'minutes' | 'seed' | 'calls'): number {
  const number = Number(values[name]);
  if (Number.isFinite(number) && number >= 0) return number;
  throw new Error(`--${name} is a number`);
}

const [seed, minutes, calls] = [numberOf('seed'), numberOf('minutes'), numberOf('calls')];
console.log(`seed ${seed}, ${minutes} minutes, at most ${calls} calls in a sequence`);
const report = await fuzz({
  seed,
  forMs: minutes * 60_000,
  calls: Math.max(2, calls),
});
for (const [id, count] of [...report.successes].sort((a, b) => b[1] - a[1]))
  console.log(`${String(count).padStart(8)} ${id}`);
console.log(`${report.sequences} sequences, nothing found`);
