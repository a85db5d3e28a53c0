import type { Authenticator } from '#http';
import {
  type AppError,
  type OperatorPrincipal,
  type Principal,
  type TenantPrincipal,
  toAppError,
} from '#kernel';
import {
  bearerToken,
  isKeyWithHash,
  isWellFormedKey,
  keyIdIn,
  type KeyPrefix,
  keyPrefixes,
} from '../key-format.ts';
import { addressNotAllowed, invalidApiKey, keysUnavailable, secretReplaced } from '../refusals.ts';
import { looksLikeToken } from '../tokens/jws.ts';
import type { TokenAuthenticator } from '../tokens/token-authenticator.ts';
import { type CachedKey, refuseAsExpired } from './key-cache.ts';
import type { KeyDirectory } from './key-directory.ts';
import { allUnknownCredentials, lookUpUnknown, type UnknownCredentials } from './unknown-credentials.ts';

export interface AuthenticatorDeps {
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly operatorKeys: KeyDirectory<OperatorPrincipal>;
  readonly tokens: TokenAuthenticator;
  /** False once cached keys are too old to be trusted. */
  readonly isFresh: () => boolean;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly onRefused: (error: AppError) => void;
  /** Whoever proved to hold the key's secret, and was refused all the same. Must not throw. */
  readonly onKnownRefused?: ((refused: KnownRefused) => void) | undefined;
  /** By default all are looked up. */
  readonly unknownCredentials?: UnknownCredentials | undefined;
}

export interface KnownRefused {
  readonly principal: Principal;
  readonly error: AppError;
  readonly clientAddress: string | null;
}

/**
 * From an Authorization header to a principal. With the key in the cache this is one SHA-256 and a comparison, without a
 * promise; the check characters need not be looked at there, since the hash says more. Otherwise a key with the wrong
 * check is refused at once, and a well-formed one is looked up.
 */
export function createAuthenticator(deps: AuthenticatorDeps): Authenticator {
  const { onRefused, unknownCredentials = allUnknownCredentials } = deps;

  function refuse(error: AppError): never {
    onRefused(error);
    throw error;
  }

  function admit<Known extends Principal>(
    directory: KeyDirectory<Known>,
    entry: CachedKey<Known>,
    key: string,
    clientAddress: string | null,
  ): Known {
    const refusal = refusalOf(deps, entry, key, clientAddress);
    if (refusal !== null) refuse(refusal);
    directory.noteUse(entry);
    entry.isRecent = true;
    return entry.principal;
  }

  function authenticate<Known extends Principal>(
    directory: KeyDirectory<Known>,
    prefix: KeyPrefix,
    key: string | null,
    clientAddress: string | null,
  ): Known | Promise<Known> {
    const keyId = key === null ? null : keyIdIn(key, prefix);
    if (key === null || keyId === null) return refuse(invalidApiKey);
    const entry = directory.find(keyId);
    if (entry) return admit(directory, entry, key, clientAddress);
    if (!isWellFormedKey(key)) return refuse(invalidApiKey);
    const find = (): Promise<Known> => admitUnknown(deps, directory, keyId, key, clientAddress);
    return reported(() => lookUpUnknown(unknownCredentials, clientAddress, find), refuse);
  }

  return {
    tenant(authorization, clientAddress) {
      const text = bearerToken(authorization);
      return text !== null && looksLikeToken(text)
        ? reported(() => deps.tokens.authenticate(text, clientAddress), refuse)
        : authenticate(deps.tenantKeys, keyPrefixes.tenant, text, clientAddress);
    },
    operator: (authorization, clientAddress) =>
      authenticate(deps.operatorKeys, keyPrefixes.operator, bearerToken(authorization), clientAddress),
  };
}

/** Lets a key in that is not cached, or throws why not. */
async function admitUnknown<Known extends Principal>(
  deps: AuthenticatorDeps,
  directory: KeyDirectory<Known>,
  keyId: string,
  key: string,
  clientAddress: string | null,
): Promise<Known> {
  const entry = await directory.fetch(keyId);
  const refusal = entry === null ? invalidApiKey : refusalOf(deps, entry, key, clientAddress);
  if (entry === null || refusal !== null) throw refusal ?? invalidApiKey;
  directory.noteUse(entry);
  return entry.principal;
}

/** Runs `find` and hands what it throws or rejects with to `refuse`. */
function reported<Found>(
  find: () => Found | Promise<Found>,
  refuse: (error: AppError) => never,
): Found | Promise<Found> {
  try {
    const found = find();
    return found instanceof Promise ? found.catch((error: unknown) => refuse(toAppError(error))) : found;
  } catch (error) {
    return refuse(toAppError(error));
  }
}

/** As `refusalFor`; tells of whoever is known. */
function refusalOf(
  deps: AuthenticatorDeps,
  entry: CachedKey<Principal>,
  key: string,
  clientAddress: string | null,
): AppError | null {
  const error = refusalFor(deps, entry, key, clientAddress);
  if (error !== null && error !== invalidApiKey && error !== keysUnavailable)
    deps.onKnownRefused?.({ principal: entry.principal, error, clientAddress });
  return error;
}

/** Why a key is not let in, or null where it is. Whoever can't prove to hold a secret of it learns nothing. */
function refusalFor(
  { isFresh, now }: AuthenticatorDeps,
  entry: CachedKey<unknown>,
  key: string,
  clientAddress: string | null,
): AppError | null {
  const { previous, standing, networks, expiresAtMs } = entry;
  let isReplaced = false;
  if (!isKeyWithHash(key, entry.hash)) {
    if (previous === null || !isKeyWithHash(key, previous.hash)) return invalidApiKey;
    isReplaced = previous.untilMs <= now();
  }
  if (!isFresh()) return keysUnavailable;
  if (expiresAtMs !== Infinity && expiresAtMs <= now()) refuseAsExpired(standing);
  if (standing.refusal !== null) return standing.refusal;
  if (isReplaced) return secretReplaced;
  const isElsewhere = networks !== null && clientAddress !== null && !networks.has(clientAddress);
  return isElsewhere ? addressNotAllowed(clientAddress) : null;
}
