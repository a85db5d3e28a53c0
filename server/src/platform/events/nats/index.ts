export type { NatsSettings } from './link.ts';
export { createNatsEvents, type NatsEvents } from './nats-events.ts';
export type { LeasePort } from './relay.ts';
