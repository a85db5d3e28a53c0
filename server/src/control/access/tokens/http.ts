import { createToken, readJwks, revokeTokens } from '@stoa/contracts';
import { openRoute, type Route, tenantRoute } from '#http';
import { tenantCaller } from '../http.ts';
import { ownAlgorithm } from './own-token.ts';
import type { SigningKeys } from './signing-keys.ts';
import { createAccessToken, revokeAccessTokens, type TokenStoreDeps } from './tokens.ts';

/** Far below the time for which a key is published before it signs, so that no cache ever lacks the current one. */
const keySetAge = 'public, max-age=300';

export function tokenRoutes(deps: TokenStoreDeps, signingKeys: Pick<SigningKeys, 'published'>): Route[] {
  return [
    tenantRoute(createToken, async ({ body }, principal) => ({
      status: 201,
      body: await createAccessToken(deps, principal, body),
      headers: { 'cache-control': 'no-store' },
    })),
    tenantRoute(revokeTokens, async ({ body }, principal, context) => ({
      status: 200,
      body: await revokeAccessTokens(deps, tenantCaller(principal, context), body),
    })),
    openRoute(readJwks, async () => ({
      status: 200,
      body: {
        keys: (await signingKeys.published()).map(({ keyId, publicKey }) => ({
          kty: 'OKP',
          crv: 'Ed25519',
          x: publicKey,
          kid: keyId,
          alg: ownAlgorithm,
          use: 'sig',
        })),
      },
      headers: { 'cache-control': keySetAge },
    })),
  ];
}
