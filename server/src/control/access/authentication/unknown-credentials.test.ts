import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ErrorCode } from '@stoa/contracts';
import { AppError } from '#kernel';
import { lookUpUnknown } from './unknown-credentials.ts';

async function isGivenBack(outcome: Error | null): Promise<boolean> {
  let given = 0;
  const unknown = { admit: () => () => void (given += 1) };
  const looked = lookUpUnknown(unknown, '192.0.2.1', async () => {
    if (outcome !== null) throw outcome;
  });
  await looked.catch(() => undefined);
  return given === 1;
}

test('a look-up counts against its address unless the credential was right or nobody could be asked', async () => {
  assert.equal(await isGivenBack(null), true);
  const free: readonly ErrorCode[] = ['key_revoked', 'key_expired', 'token_revoked', 'token_expired'];
  const alsoFree: readonly ErrorCode[] = ['tenant_suspended', 'ip_not_allowed', 'database_unavailable'];
  for (const code of [...free, ...alsoFree])
    assert.equal(await isGivenBack(new AppError(code, 'x')), true, code);
  const counted: readonly ErrorCode[] = [
    'invalid_api_key',
    'invalid_text',
    'issuer_unavailable',
    'internal_error',
  ];
  for (const code of counted) assert.equal(await isGivenBack(new AppError(code, 'x')), false, code);
  assert.equal(await isGivenBack(new TypeError('x')), false);
});
