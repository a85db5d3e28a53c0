import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { errorBody } from '@stoa/contracts';
import { type AppError, newRequestId, toTypeId } from '#kernel';

/** Headers of an error answer besides the content type: when to come back, and whether a client may retry by itself. */
function errorHeaders(error: AppError): Record<string, string> {
  const headers: Record<string, string> = {};
  if (error.retryAfterMs !== null)
    headers['retry-after'] = String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)));
  if (error.retry === 'never' || error.wasMoneySpent) headers['x-should-retry'] = 'false';
  return headers;
}

/** Answers with the one error body. Where the head went out already the connection is cut, since nothing else is true. */
export function sendError(response: ServerResponse, error: AppError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.end(writeErrorHead(response, error));
}

/** A rest of a body that is stated to be no longer than this is read to its end, and the connection lives on. */
const keptRestBytes = 64 * 1024;
/** How long the rest of a longer body is read for. */
const discardMs = 5_000;

/**
 * The same for a request whose body may still be on its way. A connection that is closed while its client sends is reset,
 * and the answer with it, so what comes is read and dropped until the body ends, at most for `discardMs`.
 */
export function sendErrorEarly(request: IncomingMessage, response: ServerResponse, error: AppError): void {
  if (response.headersSent || !mayBeLong(request)) {
    sendError(response, error);
    request.resume();
    return;
  }
  response.setHeader('connection', 'close');
  response.write(writeErrorHead(response, error));
  const finish = (): void => {
    clearTimeout(timer);
    response.end();
  };
  const timer = setTimeout(finish, discardMs).unref();
  request.once('end', finish);
  request.once('close', finish);
  request.resume();
}

/** Whether more of a body may come than is worth reading to its end. */
export function mayBeLong({ complete, headers }: IncomingMessage): boolean {
  if (complete) return false;
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > keptRestBytes;
}

/** Writes the head and returns the body that belongs to it. */
function writeErrorHead(response: ServerResponse, error: AppError): Buffer {
  const body = Buffer.from(JSON.stringify(errorBody(error.code, error.publicMessage, error.param)));
  response.writeHead(error.status, {
    ...errorHeaders(error),
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
  });
  return body;
}

/**
 * The same for a connection on which no request could be parsed, or whose request did not arrive whole. Node keeps the
 * answer under way on a connection in `_httpMessage`, and its own handler looks there, too: into the middle of an answer
 * nothing can be written.
 */
export function sendSocketError(socket: Socket, error: AppError): void {
  const underway: unknown = Reflect.get(socket, '_httpMessage');
  const response = underway instanceof ServerResponse ? underway : null;
  if (!socket.writable || response?.headersSent === true) {
    socket.destroy();
    return;
  }
  const requestId = response?.getHeader('x-request-id') ?? toTypeId('req', newRequestId());
  const body = JSON.stringify(errorBody(error.code, error.publicMessage, error.param));
  const reason = error.row.title.replace(/[^ -~]/g, '');
  socket.end(
    `HTTP/1.1 ${error.status} ${reason}\r\nx-request-id: ${String(requestId)}\r\n` +
      `content-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `connection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
