import { equal, rejects } from 'node:assert/strict';
import { test } from 'node:test';
import { guardedFetch } from './guarded-fetch.ts';

const answering = (status: number) =>
  guardedFetch(async () => ({
    outcome: 'answered',
    status,
    headers: {},
    body: Buffer.from('x'),
    isCut: false,
    url: 'https://a.example.com/',
  }));

test('whatever status a server writes, the hook answers or rejects as fetch does', async () => {
  for (const status of [200, 404, 599]) equal(await (await answering(status)('https://a/')).text(), 'x');
  for (const status of [204, 205, 304]) equal((await answering(status)('https://a/')).body, null);
  for (const status of [100, 600, 999]) await rejects(answering(status)('https://a/'), TypeError);
});
