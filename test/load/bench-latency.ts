/**
 * `npm run bench:latency`: how long from the commit of an event until a consumer in another process has it, over the log
 * itself and over NATS, at a steady rate.
 *
 *   npm run bench:latency -- [--carrier both|log|nats] [--rate 500] [--seconds 20]
 *
 * On a PostgreSQL and a NATS of its own, in scratch folders (own-servers.ts). What is measured lies inside the server:
 * measure-consumers.ts in platform/events/testing.
 */
import { measureConsumers } from './own-servers.ts';

await measureConsumers('latency');
