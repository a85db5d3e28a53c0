/**
 * Two tenants and the operator call whatever the OpenAPI document lists, with bodies made from its schemas and with ids that
 * answers gave, their own and each other's: no answer is a 5xx or undocumented or of another shape than promised, none
 * shows insides, and no tenant ever sees or touches what is another's. `npm run fuzz` goes on for longer.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { fuzz } from './fuzz.ts';

const seed = Number(process.env['STOA_TEST_SEED'] ?? randomInt(2 ** 31));

test('sequences of calls by two tenants and the operator get documented answers, and each tenant its own only', async (context) => {
  process.stdout.write(`told: fuzz seed ${seed}\n`);
  const { sequences, successes } = await fuzz({ seed, forMs: 12_000, calls: 80 });
  const calls = [...successes.values()].reduce((sum, count) => sum + count, 0);
  context.diagnostic(
    `seed ${seed}: ${sequences} sequences, ${calls} successes of ${successes.size} operations`,
  );
  // That few would mean that the calls no longer fit the operations, and that nothing is proven.
  assert.ok(successes.size >= 20, `only these succeeded: ${[...successes.keys()].join(', ')}`);
});
