export { createDecider } from './decider.ts';
export type * from './types.ts';
