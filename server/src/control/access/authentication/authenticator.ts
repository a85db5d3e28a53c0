import type { Authenticator } from '#http';
import { type AppError, type OperatorPrincipal, type TenantPrincipal, toAppError } from '#kernel';
import {
  bearerToken,
  isKeyWithHash,
  isWellFormedKey,
  keyIdIn,
  type KeyPrefix,
  keyPrefixes,
} from '../key-format.ts';
import { invalidApiKey, keysUnavailable } from '../refusals.ts';
import { type CachedKey, refuseAsExpired } from './key-cache.ts';
import type { KeyDirectory } from './key-directory.ts';

export interface AuthenticatorDeps {
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly operatorKeys: KeyDirectory<OperatorPrincipal>;
  /** False once cached keys are too old to be trusted. */
  readonly isFresh: () => boolean;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly onRefused: (error: AppError) => void;
}

/**
 * From an Authorization header to a principal. With the key in the cache this is one SHA-256 and a comparison, without a
 * promise; the check characters need not be looked at there, since the hash says more. Otherwise a key with the wrong
 * check is refused at once, and a well-formed one is looked up.
 */
export function createAuthenticator(deps: AuthenticatorDeps): Authenticator {
  const { isFresh, now, onRefused } = deps;

  function refuse(error: AppError): never {
    onRefused(error);
    throw error;
  }

  function admit<Principal>(
    directory: KeyDirectory<Principal>,
    entry: CachedKey<Principal>,
    key: string,
  ): Principal {
    if (!isKeyWithHash(key, entry.hash)) refuse(invalidApiKey);
    if (!isFresh()) refuse(keysUnavailable);
    if (entry.expiresAtMs !== Infinity && entry.expiresAtMs <= now()) refuseAsExpired(entry.standing);
    if (entry.standing.refusal !== null) refuse(entry.standing.refusal);
    directory.noteUse(entry);
    return entry.principal;
  }

  async function lookUp<Principal>(
    directory: KeyDirectory<Principal>,
    keyId: string,
    key: string,
  ): Promise<Principal> {
    let entry: CachedKey<Principal> | null;
    try {
      entry = await directory.fetch(keyId);
    } catch (error) {
      return refuse(toAppError(error));
    }
    return entry === null ? refuse(invalidApiKey) : admit(directory, entry, key);
  }

  function authenticate<Principal>(
    directory: KeyDirectory<Principal>,
    prefix: KeyPrefix,
    authorization: string | undefined,
  ): Principal | Promise<Principal> {
    const key = bearerToken(authorization);
    const keyId = key === null ? null : keyIdIn(key, prefix);
    if (key === null || keyId === null) return refuse(invalidApiKey);
    const entry = directory.find(keyId);
    if (entry) {
      const principal = admit(directory, entry, key);
      entry.isRecent = true;
      return principal;
    }
    if (!isWellFormedKey(key)) return refuse(invalidApiKey);
    return lookUp(directory, keyId, key);
  }

  return {
    tenant: (authorization) => authenticate(deps.tenantKeys, keyPrefixes.tenant, authorization),
    operator: (authorization) => authenticate(deps.operatorKeys, keyPrefixes.operator, authorization),
  };
}
