import { AppError, type Logger, toTypeId } from '#kernel';
import { type Credentials, type DataDirectory, readCredentials, writeCredentials } from './data-directory.ts';

/** What a first start needs of the control plane. */
export interface FirstStartPort {
  /** Rejects as authentication does where the key does not work. */
  checkOperatorKey(key: string): Promise<void>;
  checkTenantKey(key: string): Promise<void>;
  createOperatorKey(name: string): Promise<string>;
  /** Returns the tenant's UUID. */
  createTenant(name: string): Promise<string>;
  /** Returns the plaintext of a new admin key. */
  createAdminKey(tenantId: string, name: string): Promise<string>;
}

export interface FirstStartResult {
  readonly credentials: Credentials;
  /** True where keys were made now, so that they may be shown once. */
  readonly isNew: boolean;
}

/** The keys of the data directory, made or kept. */
export interface PreparedKeys {
  readonly keys: Pick<Credentials, 'operatorKey' | 'demo'>;
  readonly isNew: boolean;
}

/**
 * Development only. Makes an operator key and a demo tenant with an admin key where the data directory holds none that
 * work. A file whose keys the database does not know (the database was replaced) gets new ones.
 */
export async function prepareKeys(
  port: FirstStartPort,
  directory: DataDirectory,
  options: { readonly wantsDemoTenant: boolean },
): Promise<PreparedKeys> {
  const earlier = readCredentials(directory);
  const keptKey =
    earlier && (await works(port.checkOperatorKey(earlier.operatorKey))) ? earlier.operatorKey : null;
  const keptDemo =
    earlier?.demo && (await works(port.checkTenantKey(earlier.demo.apiKey))) ? earlier.demo : null;
  const operatorKey = keptKey ?? (await port.createOperatorKey('first start'));
  const demo = options.wantsDemoTenant ? (keptDemo ?? (await createDemo(port))) : null;
  return {
    keys: { operatorKey, ...(demo ? { demo } : {}) },
    isNew: keptKey === null || (demo !== null && keptDemo === null),
  };
}

/** Writes `credentials.json` (mode 0600) with the keys and the addresses of this start. Does not wait, so that it is there before anybody's first answer. */
export function keepCredentials(
  directory: DataDirectory,
  { keys, isNew }: PreparedKeys,
  addresses: { readonly baseUrl: string; readonly adminUrl: string },
  logger: Logger,
): FirstStartResult {
  const credentials: Credentials = { ...addresses, ...keys };
  writeCredentials(directory, credentials);
  if (isNew)
    logger.info({ file: directory.credentialsPath }, 'keys were made and written to the credentials file');
  return { credentials, isNew };
}

async function createDemo(port: FirstStartPort): Promise<{ tenantId: string; apiKey: string }> {
  const tenantId = await port.createTenant('Demo');
  return { tenantId: toTypeId('ten', tenantId), apiKey: await port.createAdminKey(tenantId, 'demo admin') };
}

/** Whether a key is known. That of a suspended tenant is: what an operator did on purpose is not undone by a start. */
async function works(check: Promise<void>): Promise<boolean> {
  try {
    await check;
    return true;
  } catch (error) {
    if (error instanceof AppError && error.code === 'tenant_suspended') return true;
    if (error instanceof AppError && ['invalid_api_key', 'key_revoked', 'key_expired'].includes(error.code))
      return false;
    throw error;
  }
}
