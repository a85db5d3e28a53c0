/** Settings as a test gives them, and the faults that they are refused with. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { AppError } from '#kernel';
import { type Environment, loadSettings, type SettingFault } from './config.ts';

export const options = { rootDirectory: '/srv/stoa', workingDirectory: '/home/operator' };
export const production = {
  STOA_PROFILE: 'production',
  STOA_DATABASE_URL: 'postgres://tenant:Vq8xN2aLr5@db/stoa',
  STOA_OPERATOR_DATABASE_URL: 'postgres://operator:Wq8xN2aLr5@db/stoa',
  STOA_SYSTEM_DATABASE_URL: 'postgres://system:Xq8xN2aLr5@db/stoa',
  STOA_MIGRATION_DATABASE_URL: 'postgres://migration:Yq8xN2aLr5@db/stoa',
  STOA_MASTER_KEY: randomBytes(32).toString('base64'),
};

export function faultsOf(environment: Environment): readonly SettingFault[] {
  try {
    loadSettings(environment, options);
  } catch (error) {
    assert.ok(error instanceof AppError);
    assert.equal(error.code, 'invalid_configuration');
    const faults: unknown = error.details.faults;
    assert.ok(Array.isArray(faults));
    for (const fault of faults.filter(isFault)) {
      assert.ok(error.message.includes(`${fault.name}: ${fault.wrong}; expected ${fault.expected}.`));
    }
    return faults.filter(isFault);
  }
  return [];
}

function isFault(value: unknown): value is SettingFault {
  return (
    typeof value === 'object' && value !== null && 'name' in value && 'wrong' in value && 'expected' in value
  );
}

export function faultNames(environment: Environment): string[] {
  return faultsOf(environment).map((fault) => fault.name);
}
