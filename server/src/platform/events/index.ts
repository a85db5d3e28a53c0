export { appendEvents, appendEventsFrom, logStart, readEvents } from './event-log.sql.ts';
export type * from './types.ts';
