export { createQuotas } from './quotas.ts';
export type * from './types.ts';
