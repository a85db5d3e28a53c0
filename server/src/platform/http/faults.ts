import type { IncomingMessage } from 'node:http';
import { AppError, toAppError } from '#kernel';

/** Fastify's own faults as codes of ours; anything unknown is ours to answer for. */
export function frameworkError(error: unknown): AppError {
  if (!(error instanceof Error) || error instanceof AppError) return toAppError(error);
  const code = 'code' in error ? error.code : '';
  if (code === 'FST_ERR_BAD_URL') return new AppError('bad_request', 'The path is not a valid URL path.');
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE' || code === 'FST_ERR_CTP_INVALID_CONTENT_TYPE') {
    return new AppError('unsupported_media_type', 'Send the body with Content-Type: application/json.');
  }
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new AppError('body_too_large', 'The body is too large.');
  if (code === 'FST_ERR_CTP_INVALID_CONTENT_LENGTH')
    return new AppError('bad_request', 'Content-Length does not match the body.');
  if (isCallersFault(error)) return new AppError('bad_request', 'The request is not valid.');
  return toAppError(error);
}

function isCallersFault(error: Error): boolean {
  if (!('statusCode' in error) || typeof error.statusCode !== 'number') return false;
  return 'code' in error && String(error.code).startsWith('FST_ERR_') && error.statusCode < 500;
}

/** What Node's parser or its clock found wrong with a connection. */
export function connectionError(error: Error & { code?: string }): AppError {
  if (error.code === 'HPE_HEADER_OVERFLOW')
    return new AppError('header_too_large', 'The request headers are too large.');
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new AppError('request_timeout', 'The request took too long to arrive.');
  return new AppError('bad_request', 'The request is not valid HTTP/1.1.');
}

/** HTTP/1.1 demands a Host; Node would refuse its absence with an empty body, so it is asked to leave that to us. */
export function hostFault({ headers, httpVersion }: IncomingMessage): AppError | undefined {
  if (headers.host !== undefined || httpVersion !== '1.1') return undefined;
  return new AppError('bad_request', 'The request has no Host header.');
}
