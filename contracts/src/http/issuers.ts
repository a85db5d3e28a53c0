import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { roles } from '../permissions.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/**
 * Outside issuers: whose tokens a tenant accepts for its members, and how their claims say who the caller is. Keys come
 * from the issuer's JWKS URL; what they sign with is asymmetric, always.
 */
export const issuerAlgorithms = [
  'EdDSA',
  'ES256',
  'ES384',
  'ES512',
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
] as const;
export type IssuerAlgorithm = (typeof issuerAlgorithms)[number];

const issuerName = storableText({ min: 1, max: 200 });
/** Both together are the key of an index, whose entries have a bound in bytes. */
const claimText = storableText({ min: 1, max: 500 }).refine(
  (text) => new TextEncoder().encode(text).length <= 500,
  'must be no longer than 500 bytes of UTF-8',
);
const issuerText = claimText.describe('The claim `iss`, to the letter');
const audienceText = claimText.describe(
  'What the claim `aud` must hold. A tenant sets audiences that hold its own id, `ten_...`, so that no other can claim its tokens; any other audience is settled by the operator',
);
const jwksUrl = z
  .url({ protocol: /^https?$/ })
  .max(2000)
  .refine(
    (text) => !/#/.test(text) && !/^[a-z]+:\/\/[^/]*@/i.test(text),
    'must hold no credentials or fragment',
  );
const algorithms = z
  .array(z.enum(issuerAlgorithms))
  .min(1)
  .max(issuerAlgorithms.length)
  .refine((list) => new Set(list).size === list.length, 'must name each algorithm once');
const tokenType = z.string().regex(/^[A-Za-z0-9.+-]{1,64}$/, 'must be a token type such as at+jwt');
const tokenTypes = z
  .array(tokenType)
  .min(1)
  .max(5)
  .describe(
    'What the header `typ` may be; `at+jwt` is what RFC 9068 asks for, `JWT` takes identity tokens too',
  );
const claimName = storableText({ min: 1, max: 200 });

const claims = z
  .strictObject({
    member: claimName
      .nullable()
      .default(null)
      .describe("The claim that holds a member's `external_id`; who is no member is refused"),
    role: claimName
      .nullable()
      .default(null)
      .describe('The claim, a text or a list of texts, that `roles` translates'),
    roles: z
      .record(storableText({ min: 1, max: 200 }), z.enum(roles))
      .refine((value) => Object.keys(value).length <= 100, 'at most 100 values')
      .default({}),
    default_role: z
      .enum(roles)
      .nullable()
      .default(null)
      .describe('Where there is no member and no role claim'),
    project: claimName.nullable().default(null).describe('The claim that holds the project'),
    end_user: claimName
      .nullable()
      .default(null)
      .describe('The claim that holds the end user, which is then fixed'),
  })
  .refine((value) => value.member !== null || value.role !== null || value.default_role !== null, {
    message: 'must say where the role comes from: member, role or default_role',
  })
  .refine((value) => (value.role === null) === (Object.keys(value.roles).length === 0), {
    message: '`role` and `roles` go together',
    path: ['roles'],
  });
export type IssuerClaims = z.output<typeof claims>;
export const issuerClaims: z.ZodType<IssuerClaims> = claims;

const shownClaims = z.object({
  member: z.string().nullable(),
  role: z.string().nullable(),
  roles: z.record(z.string(), z.enum(roles)),
  default_role: z.enum(roles).nullable(),
  project: z.string().nullable(),
  end_user: z.string().nullable(),
});

export const issuer = z.object({
  id: typeId('isr'),
  object: z.literal('issuer'),
  name: z.string(),
  issuer: z.string(),
  jwks_url: z.string(),
  audience: z.string(),
  algorithms: z.array(z.enum(issuerAlgorithms)),
  token_types: z.array(z.string()),
  maximum_lifetime_s: z.number().int(),
  claims: shownClaims,
  enabled: z.boolean(),
  settled_by_operator: z
    .boolean()
    .describe(
      "Whether the operator's word makes this audience the tenant's; one with the tenant's id in it needs none. Tokens of any other are accepted from nobody",
    ),
  created_by: z.string().describe('`operator`, or `key:` and the id of the key that made it'),
  version: z.number().int().min(1),
  created_at: timestamp,
  updated_at: timestamp,
});
export type IssuerObject = z.infer<typeof issuer>;

const maximumLifetime = z
  .number()
  .int()
  .min(60)
  .max(86_400)
  .describe('Seconds from `iat` to `exp`; tokens that live longer are refused');

const createBody = z.strictObject({
  name: issuerName,
  issuer: issuerText,
  jwks_url: jwksUrl,
  audience: audienceText,
  algorithms: algorithms.default(['EdDSA', 'ES256']),
  token_types: tokenTypes.default(['at+jwt']),
  maximum_lifetime_s: maximumLifetime.default(86_400),
  claims,
  enabled: z.boolean().default(true),
});
export type CreateIssuerBody = z.output<typeof createBody>;

const changeBody = z
  .strictObject({
    name: issuerName.optional(),
    issuer: issuerText.optional(),
    jwks_url: jwksUrl.optional(),
    audience: audienceText.optional(),
    algorithms: algorithms.optional(),
    token_types: tokenTypes.optional(),
    maximum_lifetime_s: maximumLifetime.optional(),
    claims: claims.optional(),
    enabled: z.boolean().optional(),
  })
  .refine((body) => Object.keys(body).length > 0, { message: 'must hold at least one field' });
export type ChangeIssuerBody = z.output<typeof changeBody>;

const params = z.object({ id: z.string().max(100) });
const tenantParams = z.object({ id: typeId('ten') });
const tenantIssuerParams = z.object({ id: typeId('ten'), issuer_id: z.string().max(100) });
const exampleTenant = 'ten_01h455vb4pex5vsknk084sn02q';
const exampleIssuer = 'isr_01h455vb4pex5vsknk084sn02q';
const exampleBody = {
  name: 'Our identity provider',
  issuer: 'https://id.example.com',
  jwks_url: 'https://id.example.com/jwks.json',
  audience: `stoa:${exampleTenant}`,
  claims: { member: 'sub' },
};
const issuerPage = { 200: { description: 'A page of issuers', schema: listOf(issuer) } } as const;
const oneIssuer = { 200: { description: 'The issuer', schema: issuer } } as const;
const newIssuer = { 201: { description: 'The issuer', schema: issuer } } as const;

export const createTenantIssuer = endpoint({
  id: 'tenant_issuers.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/tenants/{id}/issuers',
  summary:
    'Accept the tokens of an outside issuer in a tenant; the audience may be any that no other tenant has with this issuer',
  access: { permission: 'control:write' },
  params: tenantParams,
  body: createBody,
  responses: newIssuer,
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'already_exists',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleTenant }, body: exampleBody },
});

export const listTenantIssuers = endpoint({
  id: 'tenant_issuers.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/issuers',
  summary: "List a tenant's outside issuers, newest first",
  access: { permission: 'control:read' },
  params: tenantParams,
  query: listQuery,
  responses: issuerPage,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant }, query: { limit: '20' } },
});

export const readTenantIssuer = endpoint({
  id: 'tenant_issuers.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/issuers/{issuer_id}',
  summary: 'Read one outside issuer of a tenant',
  access: { permission: 'control:read' },
  params: tenantIssuerParams,
  responses: oneIssuer,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, issuer_id: exampleIssuer } },
});

export const changeTenantIssuer = endpoint({
  id: 'tenant_issuers.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/tenants/{id}/issuers/{issuer_id}',
  summary:
    "Change an outside issuer of a tenant; effective within one second. Naming the audience settles that it is this tenant's",
  access: { permission: 'control:write' },
  params: tenantIssuerParams,
  body: changeBody,
  responses: oneIssuer,
  errors: ['invalid_request', 'invalid_text', 'not_found', 'conflict', 'already_exists', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, issuer_id: exampleIssuer }, body: { enabled: false } },
});

export const deleteTenantIssuer = endpoint({
  id: 'tenant_issuers.delete',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/tenants/{id}/issuers/{issuer_id}',
  summary:
    'Delete an outside issuer of a tenant; its tokens stop working within one second, and its audience is free for another tenant',
  access: { permission: 'control:write' },
  params: tenantIssuerParams,
  responses: { 204: { description: 'Deleted' } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, issuer_id: exampleIssuer } },
});

export const createIssuer = endpoint({
  id: 'issuers.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/issuers',
  summary: 'Accept the tokens of an outside issuer in your tenant',
  access: { permission: 'issuers:write' },
  body: createBody,
  responses: newIssuer,
  errors: [
    'invalid_request',
    'invalid_text',
    'conflict',
    'already_exists',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { body: exampleBody },
});

export const listIssuers = endpoint({
  id: 'issuers.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/issuers',
  summary: "List your tenant's outside issuers, newest first",
  access: { permission: 'issuers:read' },
  query: listQuery,
  responses: issuerPage,
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readIssuer = endpoint({
  id: 'issuers.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/issuers/{id}',
  summary: 'Read one outside issuer of your tenant',
  access: { permission: 'issuers:read' },
  params,
  responses: oneIssuer,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleIssuer } },
});

export const changeIssuer = endpoint({
  id: 'issuers.change',
  listener: 'public',
  method: 'PATCH',
  path: '/v1/issuers/{id}',
  summary: 'Change an outside issuer of your tenant; effective within one second',
  access: { permission: 'issuers:write' },
  params,
  body: changeBody,
  responses: oneIssuer,
  errors: ['invalid_request', 'invalid_text', 'not_found', 'already_exists', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleIssuer }, body: { enabled: false } },
});

export const deleteIssuer = endpoint({
  id: 'issuers.delete',
  listener: 'public',
  method: 'DELETE',
  path: '/v1/issuers/{id}',
  summary: 'Delete an outside issuer of your tenant; its tokens stop working within one second',
  access: { permission: 'issuers:write' },
  params,
  responses: { 204: { description: 'Deleted' } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleIssuer } },
});
