import type { IncomingMessage, ServerResponse } from 'node:http';
import { AppError } from '#kernel';

/**
 * Request bodies are held in memory whole, so three bounds hold: one body's size, the sum over all bodies in flight, and
 * half of that sum for the bodies of one holder (a tenant, or the operator), so that a tenant whose bodies arrive slowly
 * leaves room for the others. A body that states its length takes its share before the first byte is read; a chunked one
 * takes it as it grows.
 */
export interface BodyBudget {
  readonly maximumBytes: number;
  readonly maximumInFlightBytes: number;
  /** Never less than one body. */
  readonly maximumPerHolderBytes: number;
  inFlightBytes: number;
  /** Bytes by holder; those without any are not in it. */
  readonly heldBytes: Map<string, number>;
}

export function createBodyBudget(maximumBytes: number, maximumInFlightBytes: number): BodyBudget {
  const maximumPerHolderBytes = Math.max(maximumBytes, Math.floor(maximumInFlightBytes / 2));
  const heldBytes = new Map<string, number>();
  return { maximumBytes, maximumInFlightBytes, maximumPerHolderBytes, inFlightBytes: 0, heldBytes };
}

/** Takes bytes out of the budget, or says that there is no room. */
function take(budget: BodyBudget, holder: string, bytes: number): AppError | null {
  if (bytes === 0) return null;
  const held = (budget.heldBytes.get(holder) ?? 0) + bytes;
  if (budget.inFlightBytes + bytes > budget.maximumInFlightBytes) return noRoom();
  if (held > budget.maximumPerHolderBytes) return noRoom();
  budget.inFlightBytes += bytes;
  budget.heldBytes.set(holder, held);
  return null;
}

function giveBack(budget: BodyBudget, holder: string, bytes: number): void {
  if (bytes === 0) return;
  const left = (budget.heldBytes.get(holder) ?? 0) - bytes;
  budget.inFlightBytes -= bytes;
  if (left > 0) budget.heldBytes.set(holder, left);
  else budget.heldBytes.delete(holder);
}

/** A body with the bytes that it holds of the budget; `release` gives them back and may be called twice. */
export interface HeldBody {
  readonly bytes: Buffer;
  release(): void;
}

/**
 * Reads a body whole. `done` is called once: with `unsupported_media_type` (it is packed), `body_too_large`, `overloaded`
 * (the budget over all bodies is used up), `bad_request` (the client went away in the middle) or the body.
 * A client that waits for `100 Continue` gets it only when its body is wanted.
 * @param holder whose share of the budget the body takes
 */
export function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  budget: BodyBudget,
  holder: string,
  done: (error: AppError | null, body: HeldBody | null) => void,
): void {
  const stated = Number(request.headers['content-length'] ?? 0);
  let held = 0;
  let isOver = false;
  const finish = (error: AppError | null, body: HeldBody | null): void => {
    if (isOver) return;
    isOver = true;
    if (error) giveBack(budget, holder, held);
    done(error, body);
  };
  const grow = (bytes: number): AppError | null => {
    const refusal = held + bytes > budget.maximumBytes ? tooLarge(budget) : take(budget, holder, bytes);
    if (!refusal) held += bytes;
    return refusal;
  };
  const refusal = encodingFault(request) ?? grow(stated);
  if (refusal) {
    finish(refusal, null);
    return;
  }
  if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue();
  const parts: Buffer[] = [];
  let length = 0;
  request.on('data', (part: Buffer) => {
    if (isOver) return;
    length += part.length;
    const over = length > held ? grow(length - held) : null;
    if (over) {
      finish(over, null);
      return;
    }
    parts.push(part);
  });
  request.on('end', () => {
    const [only] = parts;
    const bytes = parts.length === 1 && only ? only : Buffer.concat(parts, length);
    finish(null, { bytes, release: releaseOnce(budget, holder, held) });
  });
  request.on('error', (cause) =>
    finish(new AppError('bad_request', 'The body ended early.', { cause }), null),
  );
  // The close comes for every request; an error costs its stack, so it is made only where there is one.
  request.on('close', () => {
    if (!isOver) finish(new AppError('bad_request', 'The body ended early.'), null);
  });
}

/** Bodies are read as they are: nothing is unpacked, so nothing can be packed small to burst here. */
function encodingFault({ headers }: IncomingMessage): AppError | null {
  const coding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (coding !== 'identity' && coding !== '')
    return new AppError('unsupported_media_type', 'Send the body without a Content-Encoding.');
  const transfer = headers['transfer-encoding']?.trim().toLowerCase() ?? 'chunked';
  if (transfer !== 'chunked')
    return new AppError('unsupported_media_type', 'Send the body with no Transfer-Encoding but chunked.');
  return null;
}

function releaseOnce(budget: BodyBudget, holder: string, bytes: number): () => void {
  let isReleased = false;
  return () => {
    if (isReleased) return;
    isReleased = true;
    giveBack(budget, holder, bytes);
  };
}

function tooLarge(budget: BodyBudget): AppError {
  return new AppError('body_too_large', `The body is larger than ${budget.maximumBytes} bytes.`);
}

function noRoom(): AppError {
  return new AppError(
    'overloaded',
    'The platform holds as many request bodies as it can; try again in a moment.',
    {
      retryAfterMs: 1_000,
    },
  );
}
