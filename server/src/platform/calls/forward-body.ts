import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';

/**
 * A request body on its way through, a chunk at a time: it is read no faster than the other side takes it, and not at all
 * before there is a connection. So as long as `isTouched` is false the request can still go elsewhere, and destroying this
 * stream leaves the request itself alone.
 */
export class ForwardBody extends Readable {
  readonly #request: IncomingMessage;
  readonly #onBegin: () => void;
  readonly #onProgress: () => void;
  #isTouched = false;
  #isWhole = false;

  /** @param hooks `onBegin` before the first byte is asked for, `onProgress` with each chunk and at the end */
  constructor(request: IncomingMessage, hooks: { onBegin(): void; onProgress(): void }) {
    super();
    this.#request = request;
    this.#onBegin = () => hooks.onBegin();
    this.#onProgress = () => hooks.onProgress();
    // Whoever is told that the call ended finds it there; an error of this stream says nothing more.
    this.on('error', () => undefined);
  }

  get isTouched(): boolean {
    return this.#isTouched;
  }

  /** True once the caller has sent all of it. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  readonly #take = (chunk: Buffer): void => {
    this.#onProgress();
    if (!this.push(chunk)) this.#request.pause();
  };

  readonly #finish = (): void => {
    this.#isWhole = true;
    this.#onProgress();
    this.push(null);
  };

  override _read(): void {
    if (!this.#isTouched) {
      this.#isTouched = true;
      this.#onBegin();
      this.#request.on('data', this.#take);
      this.#request.on('end', this.#finish);
    }
    this.#request.resume();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#request.off('data', this.#take);
    this.#request.off('end', this.#finish);
    done(error);
  }
}

/** Whether a request announces a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
