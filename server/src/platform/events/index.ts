export {
  binaryCloudEvent,
  parseBinaryCloudEvent,
  parseCloudEvent,
  parseStructuredCloudEvent,
  structuredCloudEvent,
} from './cloudevents.ts';
export { appendEventsFrom, logStart, readEvents } from './event-log.sql.ts';
export { partitionCount, partitionOf } from './partition.ts';
export { appendEvents } from './publish.ts';
export type * from './types.ts';
