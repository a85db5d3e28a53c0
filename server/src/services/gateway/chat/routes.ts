import { createChatCompletion, createEmbeddings, createResponse } from '@stoa/contracts';
import type { RawExchange, RawRoute, Route } from '#http';
import { AppError, toAppError } from '#kernel';
import { callerTimeoutMs, timeoutHeader } from './deadlines.ts';
import { Exchange } from './exchange.ts';
import { readChatRequest } from './intake/chat-request.ts';
import { readEmbeddingsRequest } from './intake/embeddings-request.ts';
import { asEndUser } from './intake/end-user.ts';
import type { Intake } from './intake/intake.ts';
import type { Runtime } from './runtime.ts';

/** The routes of the chat path; each owns its response from the first byte. */
export function modelRoutes(runtime: Runtime): readonly Route[] {
  return [
    rawRoute(createChatCompletion, (raw) => start(runtime, raw, readChatRequest)),
    rawRoute(createEmbeddings, (raw) => start(runtime, raw, readEmbeddingsRequest)),
    rawRoute(createResponse, () => {
      throw new AppError(
        'unsupported_endpoint',
        'The Responses API does not exist here yet; use POST /v1/chat/completions.',
      );
    }),
  ];
}

function rawRoute(endpoint: RawRoute['endpoint'], handle: (raw: RawExchange) => void): RawRoute {
  return {
    kind: 'raw',
    endpoint,
    handle(raw) {
      try {
        handle(raw);
      } catch (thrown) {
        raw.fail(toAppError(thrown));
      }
    },
  };
}

/** What is wrong with the request itself is answered at once and leaves no record. */
function start(runtime: Runtime, raw: RawExchange, read: (body: Buffer) => Intake): void {
  if (runtime.isDraining) throw new AppError('draining', 'This process is shutting down.');
  const timeoutMs = callerTimeoutMs(raw.request.headers[timeoutHeader]);
  const intake = asEndUser(read(raw.body), raw.principal.endUser);
  new Exchange(runtime, raw, intake, timeoutMs).begin();
}
