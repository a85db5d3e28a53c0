export { createQuotas, type QuotasDeps, type QuotasModule, type QuotasSettings } from './quotas.ts';
export type * from './types.ts';
