import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { operatorRoles } from '../permissions.ts';
import { keyId, operatorKeyPattern, rotateKeyBody } from './keys.ts';
import { listOf, listQuery, storableText, timestamp } from './shared.ts';

const keyName = storableText({ min: 1, max: 200 });
const role = z.enum(operatorRoles).describe('`operator-readonly` may change nothing');

/** What is known of an operator's key after its plaintext was shown. */
export const operatorKey = z.object({
  id: keyId,
  object: z.literal('operator_key'),
  name: keyName,
  role,
  last_four: z.string().length(4).describe('The last four characters of the key'),
  created_by: z.string().describe('The id of the operator key that made it, or `system:` and what did'),
  version: z.number().int().min(1),
  created_at: timestamp,
  expires_at: timestamp.nullable(),
  revoked_at: timestamp.nullable(),
  last_used_at: timestamp.nullable().describe('To the minute'),
  rotated_at: timestamp.nullable().describe('When its secret was last replaced; null where it never was'),
  previous_secret_expires_at: timestamp
    .nullable()
    .describe('Until when the secret before is accepted as well; null where none is'),
});
export type OperatorKeyObject = z.infer<typeof operatorKey>;

/** The one answer that holds the plaintext. */
export const createdOperatorKey = operatorKey.extend({
  key: z.string().regex(operatorKeyPattern).describe('The key itself; it is shown this once'),
});

const createBody = z.strictObject({
  name: keyName,
  role: role.default('operator'),
  expires_at: timestamp.nullable().default(null).describe('Must lie in the future'),
});
export type CreateOperatorKeyBody = z.output<typeof createBody>;

const params = z.object({ id: z.string().max(100) });
const exampleParams = { id: '00a1B2c3D4e5' } as const;

export const createOperatorKey = endpoint({
  id: 'operator_keys.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/operator-keys',
  summary: 'Create a key of the operator; the plaintext is shown this once',
  access: { permission: 'control:write' },
  body: createBody,
  responses: { 201: { description: 'The key, with its plaintext', schema: createdOperatorKey } },
  errors: ['invalid_request', 'invalid_text', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: { body: { name: 'Dashboard', role: 'operator-readonly' } },
});

export const rotateOperatorKey = endpoint({
  id: 'operator_keys.rotate',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/operator-keys/{id}/rotate',
  summary: 'Give a key of the operator a new secret, shown this once; both are accepted for the overlap',
  access: { permission: 'control:write' },
  params,
  body: rotateKeyBody,
  responses: { 200: { description: 'The key, with its new plaintext', schema: createdOperatorKey } },
  errors: [
    'invalid_request',
    'not_found',
    'conflict',
    'version_conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: exampleParams, body: { overlap_seconds: 3600 } },
});

export const listOperatorKeys = endpoint({
  id: 'operator_keys.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/operator-keys',
  summary: 'List the keys of the operator, newest first, the revoked among them',
  access: { permission: 'control:read' },
  query: listQuery,
  responses: { 200: { description: 'A page of keys', schema: listOf(operatorKey) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readOperatorKey = endpoint({
  id: 'operator_keys.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/operator-keys/{id}',
  summary: 'Read one key of the operator',
  access: { permission: 'control:read' },
  params,
  responses: { 200: { description: 'The key, without its plaintext', schema: operatorKey } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: exampleParams },
});

export const revokeOperatorKey = endpoint({
  id: 'operator_keys.revoke',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/operator-keys/{id}',
  summary: 'Revoke a key of the operator for good; effective within one second. Not the one that asks',
  access: { permission: 'control:write' },
  params,
  responses: { 200: { description: 'The key, revoked', schema: operatorKey } },
  errors: ['invalid_request', 'not_found', 'conflict', 'version_conflict'],
  idempotent: 'yes',
  example: { params: exampleParams },
});
