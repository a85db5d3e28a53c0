import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bannerLines } from './banner.ts';
import { resolveRoles } from './roles.ts';

const credentials = {
  baseUrl: 'http://127.0.0.1:8080',
  adminUrl: 'http://127.0.0.1:8081',
  operatorKey: 'stoa_op_secret',
  demo: { tenantId: 'ten_demo', apiKey: 'stoa_sk_secret' },
};
const running = (isNew: boolean) => ({
  addresses: credentials,
  firstStart: { credentials, isNew },
  autoAnswer: () => 'extractive',
  degraded: (): string[] => [],
});

test('keys are shown only on a terminal, and only by the start that made them', () => {
  const shows = (isNew: boolean, isTerminal: boolean): boolean =>
    bannerLines(running(isNew), { dataDir: '/data' }, resolveRoles([]), isTerminal)
      .join('\n')
      .includes('_secret');
  assert.deepEqual([shows(true, true), shows(true, false), shows(false, true)], [true, false, false]);
});

test('it says where things are and what answers auto', () => {
  const text = bannerLines(running(false), { dataDir: '/data' }, resolveRoles([]), false).join('\n');
  for (const part of [
    'http://127.0.0.1:8080/v1',
    'http://127.0.0.1:8081/control/v1',
    '"auto" is       extractive',
    '/data/credentials.json',
  ]) {
    assert.ok(text.includes(part), part);
  }
});

test('it names what is away of what the settings name, and says nothing of it where all is there', () => {
  const text = (degraded: string[]) =>
    bannerLines(
      { ...running(false), degraded: () => degraded },
      { dataDir: '/data' },
      resolveRoles([]),
      false,
    ).join('\n');
  assert.match(text(['redis', 'nats']), /It lacks {8}redis, nats: /);
  assert.doesNotMatch(text([]), /lacks/);
});
