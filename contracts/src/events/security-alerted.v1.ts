import { z } from 'zod';
import { instant, openWord } from './shared.ts';

/** Something that a person responsible for security should look at. Never holds a secret. */
export const securityAlertedV1 = z.object({
  alert: openWord([
    'credential_misuse',
    'cross_tenant_access',
    'permission_probing',
    'leaked_key',
    'key_expiring',
  ]).describe('What was noticed'),
  severity: z.enum(['low', 'medium', 'high']),
  principal_kind: openWord(['key', 'operator', 'anonymous']).describe('What kind of caller it was'),
  principal_id: z.string().min(1).describe('The id of the key, or the address where nobody was known'),
  summary: z.string().min(1).max(2000),
  count: z.number().int().min(1).describe('How often it was seen'),
  first_seen_at: instant,
  last_seen_at: instant,
  request_id: z.uuid().nullable().describe('The last request that showed it'),
  remote_address: z.string().nullable(),
  expires_at: instant.optional().describe('When the key stops working, where the alert warns of that'),
});
export type SecurityAlertedV1 = z.infer<typeof securityAlertedV1>;
