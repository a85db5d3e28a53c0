export * from './routes.ts';
export type * from './types.ts';
