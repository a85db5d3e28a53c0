import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { errorBody } from '@stoa/contracts';
import { AppError, newRequestId, toTypeId } from '#kernel';
import type { Counter } from '#telemetry';
import { mayBeLong, sendErrorEarly } from '../answers.ts';
import { type LoadShedding, type Priority, priorityOf } from './shedding.ts';

const retryAfterS: Readonly<Record<Priority, number>> = { interactive: 1, 'agent-step': 2, batch: 5 };
const message = 'The platform has more work than it can do; try again in a moment.';
/** Text of ASCII, not bytes: Node sends it together with the head in one write, which is most of what a refusal costs. */
const body = JSON.stringify(errorBody('overloaded', message, null));

/**
 * Stands in front of everything else that a listener does, so that what is refused costs little more than its parsing:
 * only calls of tenants are refused, however they spell the path, never health and the like. They leave a metric and no line in the log.
 */
export function shedRequests(server: Server, shedding: LoadShedding, refusals: Counter): void {
  const handlers = server.listeners('request');
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    const priority = priorityOf(request.headers['x-stoa-priority']);
    if (isTenantCall(request.url ?? '') && shedding.refuses(priority)) {
      refusals.add(1, { priority });
      refuse(request, response, priority);
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

function refuse(request: IncomingMessage, response: ServerResponse, priority: Priority): void {
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
  request.resume();
}
