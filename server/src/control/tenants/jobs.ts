import { defineJob, type NamedJob } from '#jobs';
import { z } from 'zod';
import type { TenantsApi } from './types.ts';

/** Hourly. May be repeated at any point, and two at once do each other's work. */
export function purgeJob(api: Pick<TenantsApi, 'purge'>): NamedJob {
  return defineJob({
    name: 'tenant-purge',
    scope: 'system',
    data: z.strictObject({}),
    schedule: '17 * * * *',
    deadlineMs: 3_600_000,
    retry: { limit: 2, delayMs: 60_000, backoff: true },
    async run() {
      await api.purge();
    },
  });
}
