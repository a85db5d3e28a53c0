import type { MigrationSet } from '#db';

export { appendEvents, appendEventsFrom, logStart, readEvents } from './event-log.sql.ts';
export type * from './types.ts';

/** The log's table. */
export const eventMigrations: MigrationSet = {
  module: 'platform/events',
  directory: new URL('./migrations/', import.meta.url),
};
