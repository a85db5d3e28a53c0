/** Signatures of webhooks by the specification's vectors: what is to be believed, and what is not. */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { verifyWebhook, WebhookError } from '@stoa/sdk';
import { z } from 'zod';

const vectors = z.object({
  sign: z.array(
    z.object({
      id: z.string(),
      secret: z.string(),
      msg_id: z.string(),
      timestamp: z.number(),
      payload: z.string(),
      signature: z.string(),
    }),
  ),
  verify: z.array(
    z.object({
      id: z.string(),
      name: z.string(),
      now: z.number(),
      tolerance_s: z.number(),
      valid: z.boolean(),
      secret: z.string().optional(),
      public_key: z.string().optional(),
      payload: z.string(),
      headers: z.record(z.string(), z.string()),
    }),
  ),
});

const file = `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security/standard-webhooks.json`;
const { sign, verify } = vectors.parse(JSON.parse(await readFile(file, 'utf8')));

test('every message is believed or refused as the vectors say, and refused with a reason', async () => {
  const wrong: string[] = [];
  for (const one of verify) {
    const believed = await verifyWebhook({
      payload: one.payload,
      headers: one.headers,
      secret: one.secret ?? one.public_key ?? '',
      toleranceSeconds: one.tolerance_s,
      now: new Date(one.now * 1000),
    }).then(
      ({ id }) => id === one.headers['webhook-id'],
      (error: unknown) => {
        if (!(error instanceof WebhookError)) wrong.push(`${one.id}: ${String(error)}`);
        return false;
      },
    );
    if (believed !== one.valid) wrong.push(`${one.id} ${one.name}: ${believed ? 'believed' : 'refused'}`);
  }
  assert.deepEqual(wrong, []);
  console.log(`conformance: standard-webhooks verify ${verify.length} cases`);
});

test('a message that is signed as the specification says is the vectors’, byte for byte', async () => {
  for (const one of sign) {
    const key = Buffer.from(one.secret.replace('whsec_', ''), 'base64');
    const content = `${one.msg_id}.${one.timestamp}.${one.payload}`;
    assert.equal(`v1,${createHmac('sha256', key).update(content).digest('base64')}`, one.signature);
    await verifyWebhook({
      payload: Buffer.from(one.payload),
      headers: new Headers({
        'Webhook-Id': one.msg_id,
        'Webhook-Timestamp': String(one.timestamp),
        'Webhook-Signature': one.signature,
      }),
      secret: one.secret,
      now: new Date(one.timestamp * 1000),
    });
  }
  console.log(`conformance: standard-webhooks sign ${sign.length} cases`);
});
