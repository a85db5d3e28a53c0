export {
  createNatsCarrier,
  type NatsCarrier,
  type NatsCarrierDependencies,
  type NatsCarrierSettings,
} from './carrier.ts';
export { createNatsLink, type LinkDependencies, type NatsLink, type NatsSettings } from './link.ts';
export { createNatsEvents, type NatsEvents, type NatsEventsDependencies } from './nats-events.ts';
export {
  createRelay,
  type LeasePort,
  type Relay,
  type RelayDependencies,
  type RelaySettings,
} from './relay.ts';
