export { createEvents, type EventsModule } from './dispatch/events-module.ts';
export { createDispatcher, type Dispatcher, type DispatcherSettings } from './dispatch/dispatcher.ts';
export {
  binaryCloudEvent,
  parseBinaryCloudEvent,
  parseCloudEvent,
  parseStructuredCloudEvent,
  structuredCloudEvent,
} from './cloudevents.ts';
export { changedFields, controlChanged } from './control-changed.ts';
export { createEventLog, type EventLog, type EventLogSettings } from './event-log.ts';
export { appendEventsFrom, logStart, readEvents } from './event-log.sql.ts';
export { familyOf } from './event-type.ts';
export { createLogCarrier, type LogCarrierSettings } from './log-carrier/log-carrier.ts';
export { createNatsEvents, type LeasePort, type NatsEvents, type NatsSettings } from './nats/index.ts';
export { partitionCount, partitionOf } from './partition.ts';
export type { HorizonCulprit, HorizonState, HorizonWatch } from './horizon.ts';
export { appendEvents } from './publish.ts';
export { type Settled, settleEventLog } from './settle.ts';
export type { WakeUps } from './wake.ts';
export type * from './types.ts';
