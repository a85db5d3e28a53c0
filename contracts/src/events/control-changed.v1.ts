import { z } from 'zod';
import { openWord } from './shared.ts';

/** A resource of a tenant was changed in the control plane. What is secret is never part of it. */
export const controlChangedV1 = z.object({
  resource: openWord([
    'tenant',
    'member',
    'key',
    'plan',
    'flag',
    'config',
    'policy',
    'manifest',
    'issuer',
    'key_policy',
    'webhook',
    'limits',
    'key_limits',
  ]).describe('What kind of thing changed'),
  resource_id: z
    .string()
    .min(1)
    .describe("The id of what changed; a tenant's one policy has the tenant's id"),
  change: openWord(['created', 'changed', 'suspended', 'resumed', 'deleted', 'restored', 'revoked']).describe(
    'What was done to it',
  ),
  version: z.number().int().min(1).describe('The version that the change made'),
  state: z
    .string()
    .nullable()
    .describe(
      'The state after the change: `active`, `suspended`, `deleted`, `revoked`; null where it has none',
    ),
  name: z.string().nullable().describe('Its name after the change; null where it has none'),
  changed_fields: z.array(z.string()).describe('The fields that differ from before; empty where it is new'),
  changed_by: z.string().describe("`operator`, or `key:` and the id of a key of the tenant's own"),
});
export type ControlChangedV1 = z.infer<typeof controlChangedV1>;
