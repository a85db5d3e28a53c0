import type { ServerResponse } from 'node:http';
import { AppError } from '#kernel';
import type { RouteReply } from '../types.ts';

/** A reader that takes nothing for so long is cut off. */
const stallMs = 60_000;

/**
 * Sends an answer that comes in parts, each taken when the reader has room for it, so that one part at a time is in memory.
 * Resolves when all is handed to the connection, or the reader is gone; the rest is then not taken. Rejects with what the
 * parts reject with: the connection has to be cut then, since a whole end would say that all was told.
 */
export async function sendParts(
  response: ServerResponse,
  { status, headers }: RouteReply,
  { contentType, content }: NonNullable<RouteReply['parts']>,
): Promise<void> {
  response.writeHead(status, { ...headers, 'content-type': contentType });
  if (response.req.method !== 'HEAD') {
    for await (const part of content) {
      if (response.destroyed) return;
      if (!response.write(part)) await drained(response);
    }
  }
  response.end();
}

function drained(response: ServerResponse): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stalled = (): void => {
    reject(new AppError('deadline_exceeded', 'The reader took nothing for too long.'));
  };
  const timer = setTimeout(stalled, stallMs).unref();
  response.once('drain', resolve);
  response.once('close', resolve);
  return promise.finally(() => {
    clearTimeout(timer);
    response.off('drain', resolve);
    response.off('close', resolve);
  });
}
