/**
 * `npm run bench:backlog`: how fast a backlog of events is worked off, tenth by tenth, with the memory that it takes: by a
 * consumer over the log itself; then by the relay to NATS, and by a consumer over NATS.
 *
 *   npm run bench:backlog -- [--carrier both|log|nats] [--events 1000000]
 *
 * On a PostgreSQL and a NATS of its own, in scratch folders (own-servers.ts), which take 6 GB for a million. What is
 * measured lies inside the server: measure-consumers.ts in platform/events/testing.
 */
import { measureConsumers } from './own-servers.ts';

await measureConsumers('backlog');
