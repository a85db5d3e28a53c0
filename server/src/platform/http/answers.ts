import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { errorBody } from '@stoa/contracts';
import type { AppError } from '#kernel';

/** Headers of an error answer besides the content type: when to come back, and whether a client may retry by itself. */
export function errorHeaders(error: AppError): Record<string, string> {
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
  const body = Buffer.from(JSON.stringify(errorBody(error.code, error.publicMessage, error.param)));
  response.writeHead(error.status, {
    ...errorHeaders(error),
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
  });
  response.end(body);
}

/** The same for a connection on which no request could be parsed. */
export function sendSocketError(socket: Socket, error: AppError): void {
  if (!socket.writable || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(errorBody(error.code, error.publicMessage, error.param));
  const reason = error.row.title.replace(/[^ -~]/g, '');
  socket.end(
    `HTTP/1.1 ${error.status} ${reason}\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}
