import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { type IssuerAlgorithm, issuerAlgorithms } from '@stoa/contracts';
import { z } from 'zod';
import type { VerificationKey } from '../tokens/jws.ts';

/**
 * A JSON Web Key Set, read for verification alone. Taken are public keys with an id that are for signatures (`use`,
 * `key_ops`) and sound: on their curve, RSA of 2048 to 8192 bits with an odd exponent and without the ROCA flaw, nothing
 * private among their members. Each is bound to the algorithms that its kind, its curve and its own `alg` leave; all other
 * keys are passed over, as RFC 7517 asks. An id that is there twice is nobody's.
 */
const keysAtMost = 100;

const jsonWebKey = z.looseObject({
  kty: z.string(),
  kid: z.string().min(1).max(256),
  use: z.string().optional(),
  key_ops: z.array(z.string()).optional(),
  alg: z.string().optional(),
  crv: z.string().optional(),
  x: z.string().optional(),
  y: z.string().optional(),
  n: z.string().optional(),
  e: z.string().optional(),
});
type ReadKey = z.output<typeof jsonWebKey>;
const keySet = z.looseObject({ keys: z.array(z.unknown()).max(keysAtMost) });

const privateMembers = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const;

/** Key id -> key. Null where the value is no key set at all. */
export function readKeySet(value: unknown): ReadonlyMap<string, VerificationKey> | null {
  const set = keySet.safeParse(value);
  if (!set.success) return null;
  const found = new Map<string, VerificationKey>();
  const seen = new Set<string>();
  for (const entry of set.data.keys) {
    const jwk = jsonWebKey.safeParse(entry);
    if (!jwk.success) continue;
    const { kid } = jwk.data;
    const key = seen.has(kid) ? null : verificationKey(jwk.data);
    if (key === null) found.delete(kid);
    else found.set(kid, key);
    seen.add(kid);
  }
  return found;
}

function verificationKey(jwk: ReadKey): VerificationKey | null {
  const isForSigning = (jwk.use ?? 'sig') === 'sig' && (jwk.key_ops ?? ['verify']).includes('verify');
  if (!isForSigning || privateMembers.some((name) => Object.hasOwn(jwk, name))) return null;
  const algorithms = algorithmsOf(jwk).filter((name) => jwk.alg === undefined || jwk.alg === name);
  const key = algorithms.length === 0 ? null : publicKey(jwk);
  return key === null || !isSound(key) ? null : { algorithms, key };
}

const ofCurve: ReadonlyMap<string, IssuerAlgorithm> = new Map([
  ['OKP Ed25519', 'EdDSA'],
  ['EC P-256', 'ES256'],
  ['EC P-384', 'ES384'],
  ['EC P-521', 'ES512'],
]);

function algorithmsOf({ kty, crv }: ReadKey): readonly IssuerAlgorithm[] {
  if (kty === 'RSA') return issuerAlgorithms.filter((name) => name.startsWith('RS') || name.startsWith('PS'));
  const algorithm = ofCurve.get(`${kty} ${crv ?? ''}`);
  return algorithm === undefined ? [] : [algorithm];
}

function publicKey({ kty, crv, x, y, n, e }: ReadKey): KeyObject | null {
  const members = Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined);
  const jwk: JsonWebKey = Object.fromEntries(members);
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch {
    return null;
  }
}

function isSound(key: KeyObject): boolean {
  if (key.asymmetricKeyType !== 'rsa') return true;
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (modulusLength < 2048 || modulusLength > 8192 || publicExponent < 3n || publicExponent % 2n === 0n)
    return false;
  return !hasRocaFlaw(key);
}

/**
 * The fingerprint of CVE-2017-15361: primes of the flawed generator are powers of 65537 modulo many small primes, so the
 * modulus is one too. A sound modulus passes as such for all of these primes once in about 2^27 keys.
 */
const rocaPrimes = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157] as const;
const rocaPowers = rocaPrimes.map((prime) => {
  const powers = new Set<number>();
  for (let power = 1; !powers.has(power); power = (power * 65_537) % prime) powers.add(power);
  return { prime: BigInt(prime), powers };
});

function hasRocaFlaw(key: KeyObject): boolean {
  const { n = '' } = key.export({ format: 'jwk' });
  const modulus = BigInt(`0x${Buffer.from(n, 'base64url').toString('hex')}`);
  return rocaPowers.every(({ prime, powers }) => powers.has(Number(modulus % prime)));
}
