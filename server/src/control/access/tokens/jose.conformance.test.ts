/**
 * Outside vectors of tokens: policy attacks on top of good signatures, Wycheproof's signatures and keys, and the examples
 * of RFC 7520 and 7797. They go through the very pieces that check every bearer token.
 */

import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { issuerAlgorithms } from '@stoa/contracts';
import { z } from 'zod';
import { readKeySet } from '../issuers/key-set.ts';
import { checkClaims, readTenantAndRole } from './claims.ts';
import { isSignedBy, looksLikeToken, readToken, type VerificationKey } from './jws.ts';
import { parseStrictObject } from './strict-json.ts';

const folder = `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security`;

async function vectors<S extends z.ZodType>(name: string, schema: S): Promise<z.output<S>> {
  return schema.parse(JSON.parse(await readFile(`${folder}/${name}`, 'utf8')));
}

const policyFile = z.object({
  now: z.number(),
  issuer: z.string(),
  audience: z.string(),
  algorithms: z.array(z.string()),
  typ: z.string(),
  max_lifetime_s: z.number(),
  clock_tolerance_s: z.number(),
  roles: z.array(z.string()),
  jwks: z.unknown(),
  cases: z
    .array(
      z.object({
        id: z.string(),
        name: z.string(),
        token: z.string(),
        accept: z.union([z.boolean(), z.literal('either')]),
      }),
    )
    .min(1),
});

/** A tenant id of the vectors' shape; ours is a TypeID. */
const tenantShape = /^[a-z]{3}_[0-9A-Za-z]+$/;

async function isAccepted(policy: z.output<typeof policyFile>, text: string): Promise<boolean> {
  const token = looksLikeToken(text) ? readToken(text) : null;
  const claims = token === null ? null : parseStrictObject(token.payload);
  if (token === null || claims === null || !policy.algorithms.includes(token.algorithm)) return false;
  const rules = {
    issuer: policy.issuer,
    audience: policy.audience,
    types: [policy.typ],
    maximumLifetimeS: policy.max_lifetime_s,
    toleranceS: policy.clock_tolerance_s,
  };
  if (checkClaims(token, claims, rules, policy.now * 1000).outcome !== 'right') return false;
  const tenantFrom = (tid: string): string | null => (tenantShape.test(tid) ? tid : null);
  if (readTenantAndRole(claims, tenantFrom, policy.roles) === null) return false;
  const key = readKeySet(policy.jwks)?.get(token.keyId);
  return key !== undefined && isSignedBy(token, key);
}

test('every attack on the policy of tokens is refused, and every token within it is accepted', async () => {
  const policy = await vectors('jwt-policy.json', policyFile);
  for (const { id, name, token, accept } of policy.cases) {
    const accepted = await isAccepted(policy, token);
    if (accept !== 'either') assert.equal(accepted, accept, `${id}: ${name}`);
  }
  console.log(`conformance: jwt-policy ${policy.cases.length} cases`);
});

const wycheproofFile = z.object({
  testGroups: z.array(
    z.object({
      comment: z.string().optional(),
      public: z.looseObject({}).optional(),
      private: z.looseObject({}).optional(),
      tests: z.array(
        z.object({
          tcId: z.number(),
          comment: z.string(),
          jws: z.unknown().optional(),
          jwe: z.unknown().optional(),
          result: z.enum(['valid', 'invalid', 'acceptable']),
        }),
      ),
    }),
  ),
});

/** A key set of what a group gives: one key or a set. Its file's own `use: enc` and the like stay as they are. */
function keysOf(
  group: z.output<typeof wycheproofFile>['testGroups'][number],
): ReadonlyMap<string, VerificationKey> {
  const given = group.public ?? {};
  const set: unknown = 'keys' in given ? given : { keys: [given] };
  return readKeySet(set) ?? new Map();
}

/**
 * Whether the key says that it is for another algorithm than the token names (two of the figures of RFC 7520 come so): a
 * key is used only as its owner says, so such a token is refused here although its signature fits.
 */
function isForAnother(key: unknown, text: string): boolean {
  const stated = z.looseObject({ alg: z.string() }).safeParse(key);
  return stated.success && stated.data.alg !== readToken(text)?.algorithm;
}

async function isVerified(keys: ReadonlyMap<string, VerificationKey>, text: string): Promise<boolean> {
  const token = readToken(text);
  const key = token === null ? undefined : keys.get(token.keyId);
  const isKnown = issuerAlgorithms.some((name) => name === token?.algorithm);
  return token !== null && key !== undefined && isKnown && isSignedBy(token, key);
}

for (const name of ['json_web_signature_test', 'json_web_key_test', 'json_web_crypto_test']) {
  test(`Wycheproof, ${name}: no invalid signature and no unfit key is accepted, and the valid ones of public keys are`, async () => {
    const { testGroups } = await vectors(`wycheproof/${name}.json`, wycheproofFile);
    let count = 0;
    for (const group of testGroups) {
      // Without a public key the group is about HMAC or about encryption. Stoa takes no symmetric token from anybody, so
      // there every token is refused, the valid ones too; and it reads no JWE at all.
      const isPublic = group.public !== undefined;
      const keys = keysOf(group);
      for (const { tcId, comment, jws, jwe, result } of group.tests) {
        const given = jws ?? jwe;
        // The JSON serialization is an object or its text; a bearer token is always compact.
        const text = typeof given === 'string' ? given : JSON.stringify(given);
        const accepted = await isVerified(keys, text);
        const isApplicable = isPublic && jws !== undefined && !isForAnother(group.public, text);
        const message = `${tcId} ${comment} (${group.comment ?? ''})`;
        if (result === 'invalid' || !isApplicable) assert.equal(accepted, false, message);
        else if (result === 'valid') assert.equal(accepted, true, message);
        count += 1;
      }
    }
    console.log(`conformance: wycheproof ${name} ${count} cases`);
  });
}

const exampleFile = z.looseObject({
  input: z.looseObject({ key: z.unknown().optional() }).optional(),
  output: z.looseObject({ compact: z.string().optional() }).optional(),
});

/** Only the public members of a key, as its owner would publish it. */
function published(jwk: unknown): unknown {
  const members = z.looseObject({}).parse(jwk);
  const hidden = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k'];
  return { keys: [Object.fromEntries(Object.entries(members).filter(([name]) => !hidden.includes(name)))] };
}

async function filesOf(part: string): Promise<readonly string[]> {
  const names = await readdir(`${folder}/jose-cookbook/${part}`);
  return names.filter((name) => name.endsWith('.json')).map((name) => `jose-cookbook/${part}/${name}`);
}

test('the signature examples of RFC 7520 and 7797: compact ones of public keys verify, all others are refused', async () => {
  let count = 0;
  for (const file of [...(await filesOf('jws')), ...(await filesOf('rfc7797'))]) {
    const example = await vectors(file, exampleFile);
    const { compact } = example.output ?? {};
    const token = compact === undefined ? null : readToken(compact);
    // Not applicable: several signatures and unprotected headers have no compact form; HMAC needs a shared secret, which
    // Stoa takes from nobody; `b64: false` signs something else than what the token holds, and is refused as such.
    const isApplicable = token !== null && !token.algorithm.startsWith('HS');
    const keys = isApplicable ? readKeySet(published(example.input?.key)) : new Map();
    const accepted = compact !== undefined && keys !== null && (await isVerified(keys, compact));
    assert.equal(accepted, isApplicable, file);
    count += 1;
  }
  console.log(`conformance: jose-cookbook jws ${count} cases`);
});

test('the keys of RFC 7520: public ones are read, and neither a private nor a symmetric one ever becomes a key', async () => {
  let count = 0;
  for (const file of await filesOf('jwk')) {
    const jwk = await vectors(file, z.looseObject({ kty: z.string() }));
    const isPublic = jwk.kty !== 'oct' && !('d' in jwk);
    assert.equal(readKeySet({ keys: [jwk] })?.size, isPublic ? 1 : 0, file);
    count += 1;
  }
  console.log(`conformance: jose-cookbook jwk ${count} cases`);
});

test('no encrypted token of RFC 7520 is taken for one of ours', async () => {
  let count = 0;
  for (const file of [...(await filesOf('jwe')), ...(await filesOf('curve25519'))]) {
    const { output } = await vectors(file, exampleFile);
    // Stoa reads no JWE: five parts, or a JSON form.
    assert.equal(readToken(output?.compact ?? JSON.stringify(output)), null, file);
    count += 1;
  }
  console.log(`conformance: jose-cookbook jwe ${count} cases`);
});
