/** What we send is signed as the specification's vectors are. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { z } from 'zod';
import { signedHeaders } from './signing.ts';

const vectors = z.object({
  sign: z.array(
    z.object({
      secret: z.string(),
      msg_id: z.string(),
      timestamp: z.number(),
      payload: z.string(),
      signature: z.string(),
    }),
  ),
});

test('a message is signed as in every vector', async () => {
  const file = `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security/standard-webhooks.json`;
  const { sign } = vectors.parse(JSON.parse(await readFile(file, 'utf8')));
  for (const { secret, msg_id: id, timestamp, payload, signature } of sign) {
    const headers = signedHeaders({ id, body: payload, timestampSeconds: timestamp }, [secret]);
    assert.deepEqual(headers, [
      'webhook-id',
      id,
      'webhook-timestamp',
      String(timestamp),
      'webhook-signature',
      signature,
    ]);
  }
  console.log(`conformance: standard-webhooks signing ${sign.length} cases`);
});
