import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { errorBody } from '@stoa/contracts';
import { AppError, newRequestId, toTypeId } from '#kernel';
import type { Counter } from '#telemetry';
import { mayBeLong, sendErrorEarly } from '../answers.ts';
import { type LoadShedding, type Priority, priorityOf } from './shedding.ts';

const retryAfterS: Readonly<Record<Priority, number>> = { interactive: 1, 'agent-step': 2, batch: 5 };
/** A refusal costs 30 to 40 us, so these are less than ten milliseconds of a turn. */
const wokenAtOnce = 256;
const message = 'The platform has more work than it can do; try again in a moment.';
/** Text of ASCII, not bytes: Node sends it together with the head in one write, which is most of what a refusal costs. */
const body = JSON.stringify(errorBody('overloaded', message, null));

/**
 * Stands in front of everything else that a listener does, so that what is refused costs little more than its parsing:
 * only calls of tenants are refused, however they spell the path, never health and the like. They leave a metric and no line in the log.
 */
export function shedRequests(server: Server, shedding: LoadShedding, refusals: Counter): void {
  const handlers = server.listeners('request');
  const resting = new RestingConnections();
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    const priority = priorityOf(request.headers['x-stoa-priority']);
    if (isTenantCall(request.url ?? '') && shedding.refuses(priority)) {
      refusals.add(1, { priority });
      refuse(request, response, priority, resting);
      return;
    }
    for (const handle of handlers) Reflect.apply(handle, server, [request, response]);
  });
}

/**
 * Whether a call is a tenant's, as far as its text says. The router reads more spellings than one (`/%761/...`, the absolute
 * form with scheme and host); whatever is not written plainly counts as a tenant's, so that no spelling gets past this.
 * Health and the like are asked for plainly by whoever needs them.
 */
function isTenantCall(url: string): boolean {
  if (url.startsWith('/v1/')) return true;
  const end = url.indexOf('?');
  const path = end === -1 ? url : url.slice(0, end);
  return !path.startsWith('/') || path.includes('%');
}

/**
 * Connections that were just refused, not read from for a turn or more. As long as more than a thousand sockets have something
 * to read, libuv asks for them again within the same phase, up to 48 times: with 2,000 clients that ask again at once, one
 * turn of the loop took two seconds, whoever was refused. So each is read once a turn at most, and so many in one turn that
 * it stays short; the others wait in the kernel.
 */
class RestingConnections {
  #waiting: Socket[] = [];
  #isPlanned = false;

  add(socket: Socket): void {
    socket.pause();
    this.#waiting.push(socket);
    this.#plan();
  }

  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(this.#wake);
  }

  readonly #wake = (): void => {
    this.#isPlanned = false;
    for (const socket of this.#waiting.splice(0, wokenAtOnce)) socket.resume();
    if (this.#waiting.length > 0) this.#plan();
  };
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  priority: Priority,
  resting: RestingConnections,
): void {
  response.setHeader('x-request-id', toTypeId('req', newRequestId()));
  if (mayBeLong(request)) {
    sendErrorEarly(
      request,
      response,
      new AppError('overloaded', message, { retryAfterMs: retryAfterS[priority] * 1000 }),
    );
    return;
  }
  response.writeHead(503, {
    'retry-after': String(retryAfterS[priority]),
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
  });
  response.end(body, 'latin1');
  // Not before its end: reading the rest of a request would start the connection again.
  request.once('end', () => resting.add(request.socket));
  request.resume();
}
