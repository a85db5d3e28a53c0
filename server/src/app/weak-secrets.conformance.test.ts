/** Secrets that were found in the wild, as the secret of a cluster: start-up refuses them by a rule, not by a list. */

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { z } from 'zod';
import { secretWeakness, typedWeakness } from './secret-strength.ts';

const folder = `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security`;

test('known weak secrets are refused: all that are invented or short; what was random and leaked no rule can know', async () => {
  const text = await readFile(`${folder}/jwt-weak-secrets.json`, 'utf8');
  const secrets = z.array(z.string()).min(1).parse(JSON.parse(text));
  const letIn = secrets.filter((secret) => secretWeakness(secret) === null);
  // A few are 32 random bytes or more that somebody published: of these the text itself tells nothing.
  for (const secret of letIn) assert.ok(secret.length >= 43, secret);
  assert.ok(letIn.length <= secrets.length / 200, `let in: ${letIn.join(' ')}`);
  // In development what is long enough may be words; everything shorter is refused there too.
  const tried = secrets.filter((secret) => typedWeakness(secret) === null);
  for (const secret of tried) assert.ok(secret.length >= 32, secret);
  console.log(`conformance: weak secrets refused ${secrets.length - letIn.length} cases`);
});
