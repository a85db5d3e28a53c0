import { rejects } from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { verifyWebhook } from './webhook.ts';

const secret = `whsec_${Buffer.from('of the test').toString('base64')}`;
const timestamp = '1790000000';
const signature = createHmac('sha256', 'of the test').update(`msg_1.${timestamp}.{}`).digest('base64');
const message = {
  payload: '{}',
  headers: {
    'webhook-id': 'msg_1',
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature}`,
  },
  secret,
  now: new Date(1_790_000_000_000),
};

test('a tolerance or a time that is no number lets no message pass', async () => {
  await verifyWebhook({ ...message, toleranceSeconds: 0 });
  await rejects(verifyWebhook({ ...message, toleranceSeconds: Number.NaN }), { code: 'timestamp_too_old' });
  await rejects(verifyWebhook({ ...message, now: new Date('soon') }), { code: 'timestamp_too_old' });
  await rejects(verifyWebhook({ ...message, toleranceSeconds: -1 }), { code: 'timestamp_too_old' });
});
