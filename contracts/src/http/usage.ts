import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { decimalAmount, listOf, storableText, timestamp } from './shared.ts';

export const usageGroups = ['day', 'model', 'key', 'project', 'end_user'] as const;
export type UsageGroup = (typeof usageGroups)[number];

const count = z.number().int().min(0);

const sums = {
  requests: count.describe('All requests that ended, those that failed or were refused among them'),
  failed_requests: count,
  refused_requests: count.describe('Refused before any call'),
  unpriced_requests: count.describe(
    'Requests that used tokens of a target without a price; they are in no sum of money',
  ),
  estimated_requests: count.describe('Requests whose tokens are estimates'),
  input_tokens: count,
  output_tokens: count,
  cached_input_tokens: count.describe('Part of input_tokens'),
  cache_write_tokens: count.describe('Part of input_tokens'),
  reasoning_tokens: count.describe('Part of output_tokens'),
  input_audio_tokens: count.describe('Part of input_tokens'),
  output_audio_tokens: count.describe('Part of output_tokens'),
  cost: decimalAmount
    .nullable()
    .describe('What the providers take, in USD, exactly; null where no request had a price'),
  charge: decimalAmount
    .nullable()
    .describe('What the tenant pays, in USD, exactly; null where no request had a price'),
};

export const usageTotals = z.object(sums);
export type UsageTotals = z.infer<typeof usageTotals>;

/** The sums of one group; the members that `group_by` does not name are absent. */
export const usageRow = z.object({
  id: z.string().describe('Names the group, for `after`'),
  day: z.iso.date().optional().describe('In UTC, by the time at which the requests were made'),
  model: z
    .string()
    .optional()
    .describe('The target that answered, or what was asked for where none was tried'),
  key_id: z.string().optional(),
  project_id: z.string().nullable().optional(),
  end_user: z.string().nullable().optional(),
  ...sums,
});
export type UsageRow = z.infer<typeof usageRow>;

const groupNames = usageGroups.join('|');
const groupList = new RegExp(`^(?:${groupNames})(?:,(?:${groupNames}))*$`);

const filterText = storableText({ min: 1, max: 512 });

const usageQuery = z.object({
  group_by: z
    .string()
    .max(200)
    .regex(groupList, `must be one or several of ${usageGroups.join(', ')}, separated by commas`)
    .default('day')
    .describe(`One or several of ${usageGroups.join(', ')}, separated by commas`),
  from: z.iso.date().optional().describe('First day, in UTC; default 29 days before `to`'),
  to: z.iso.date().optional().describe('Last day, in UTC; default today'),
  model: filterText.optional(),
  key_id: filterText.optional(),
  project_id: filterText.optional(),
  end_user: filterText.optional(),
  after: z.string().max(4000).optional().describe('The `last_id` of the page before'),
  limit: z.coerce.number().int().min(1).max(100).default(100),
});
export type UsageQuery = z.output<typeof usageQuery>;

export const usageReport = listOf(usageRow).extend({
  from: z.iso.date(),
  to: z.iso.date(),
  currency: z.literal('USD'),
  totals: usageTotals.describe('Over all groups, those of other pages among them'),
  as_of: timestamp.describe(
    'Everything that had ended by then is counted, but for what other processes have not written yet (under a second)',
  ),
});
export type UsageReport = z.infer<typeof usageReport>;

export const readUsage = endpoint({
  id: 'usage.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/usage',
  summary:
    'Sum up tokens, cost and charge by day, model, key, project or end user. Kept for 13 months. A key of a project ' +
    "sees that project's only",
  access: { permission: 'usage:read' },
  query: usageQuery,
  responses: { 200: { description: 'A page of groups, days newest first', schema: usageReport } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { group_by: 'day,model', from: '2026-01-01', to: '2026-01-31' } },
});
