export * from './clock.ts';
export * from './error.ts';
export * from './ids.ts';
export * from './logger.ts';
export * from './module.ts';
export * from './money.ts';
export * from './principal.ts';
