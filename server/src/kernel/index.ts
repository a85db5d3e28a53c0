export * from './clock.ts';
export * from './error.ts';
export * from './ids.ts';
export * from './json.ts';
export * from './logger.ts';
export type * from './module.ts';
export * from './money.ts';
export * from './principal.ts';
export * from './sealed.ts';
