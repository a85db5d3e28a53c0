import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { type Permission, permissions, roles } from '../permissions.ts';
import { keyId } from './keys.ts';
import { storableText, timestamp, typeId } from './shared.ts';

/** The longest life of an access token of Stoa, in seconds. */
export const maximumTokenSeconds = 600;
/** The most permissions that a token for an end user can hold: what a front end needs, and nothing of the tenant's. */
export const endUserPermissions = [
  'chat:create',
  'embeddings:create',
  'models:read',
] as const satisfies readonly Permission[];

const endUser = storableText({ min: 1, max: 512 });

export const accessToken = z.object({
  id: typeId('tok').describe('The claim `jti`; revoke the token by it'),
  object: z.literal('access_token'),
  token: z
    .string()
    .describe('Send it as `Authorization: Bearer ...`; it is shown this once and stored nowhere'),
  token_type: z.literal('Bearer'),
  expires_in: z.number().int().min(1).max(maximumTokenSeconds).describe('Seconds'),
  expires_at: timestamp,
  role: z.enum(roles),
  scopes: z.array(z.enum(permissions)).nullable().describe('Null: all of the role'),
  project_id: z.string().nullable(),
  end_user: z.string().nullable(),
});

export const createToken = endpoint({
  id: 'tokens.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/tokens',
  summary: 'Change your key for a short-lived access token that may do no more, for one end user if you like',
  access: { permission: 'tokens:create' },
  body: z.strictObject({
    scopes: z
      .array(z.enum(permissions))
      .min(1)
      .max(64)
      .optional()
      .describe(
        'Each must be yours. Default: all of yours; for an end user, what such a token can hold of yours',
      ),
    end_user: endUser
      .optional()
      .describe(
        `Requests with the token count as this end user's and can name no other. Such a token can hold ${endUserPermissions.join(', ')}`,
      ),
    expires_in: z
      .number()
      .int()
      .min(1)
      .max(maximumTokenSeconds)
      .default(maximumTokenSeconds)
      .describe('Seconds; less where your key expires before'),
  }),
  responses: { 201: { description: 'The token', schema: accessToken } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'no',
  example: { body: { end_user: 'user-42', expires_in: 300 } },
});

export const tokenRevocation = z.object({
  object: z.literal('token_revocation'),
  revoked: z.enum(['token', 'tenant', 'key', 'member', 'end_user']),
  id: z.string().nullable().describe('Of what was revoked; null for the whole tenant'),
  not_before: timestamp
    .nullable()
    .describe('Tokens issued up to then are refused; null where one token was revoked by its id'),
});

const revokeBody = z
  .strictObject({
    token_id: storableText({ min: 1, max: 256 }).optional().describe('The claim `jti` of one token'),
    key_id: keyId.optional().describe('All tokens made with this key until now'),
    member_id: typeId('mem').optional().describe('All tokens of this member until now'),
    end_user: endUser.optional().describe('All tokens for this end user until now'),
    all: z.literal(true).optional().describe('All tokens of your tenant until now'),
  })
  .refine((body) => Object.values(body).filter((value) => value !== undefined).length === 1, {
    message: 'must name exactly one of token_id, key_id, member_id, end_user and all',
  });
export type RevokeTokensBody = z.output<typeof revokeBody>;

export const revokeTokens = endpoint({
  id: 'tokens.revoke',
  listener: 'public',
  method: 'POST',
  path: '/v1/tokens/revoke',
  summary:
    'Revoke a token by its id, or all tokens until now of a key, a member, an end user or your tenant; effective within one second',
  access: { permission: 'tokens:revoke' },
  body: revokeBody,
  responses: { 200: { description: 'What was revoked', schema: tokenRevocation } },
  errors: ['invalid_request', 'invalid_text', 'conflict'],
  idempotent: 'yes',
  example: { body: { end_user: 'user-42' } },
});

export const jsonWebKeySet = z.object({
  keys: z.array(
    z.object({
      kty: z.literal('OKP'),
      crv: z.literal('Ed25519'),
      x: z.string(),
      kid: z.string(),
      alg: z.literal('EdDSA'),
      use: z.literal('sig'),
    }),
  ),
});

export const readJwks = endpoint({
  id: 'jwks.read',
  listener: 'public',
  method: 'GET',
  path: '/.well-known/jwks.json',
  summary: 'The public keys of the access tokens: the next, the current and the previous',
  access: 'anyone',
  responses: { 200: { description: 'A JSON Web Key Set', schema: jsonWebKeySet } },
  errors: ['database_unavailable'],
  idempotent: 'yes',
  example: {},
});
