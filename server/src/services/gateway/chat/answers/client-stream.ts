import type { ServerResponse } from 'node:http';
import { errorBody } from '@stoa/contracts';
import type { AppError } from '#kernel';

/**
 * The client's side of a stream, for the whole request: it outlives attempts, since a waiting client gets comments while
 * one target after another is tried.
 *
 * The head goes out with the first byte, be it a frame or a comment. After that an error can only come in band: one
 * `data: {"error":{...}}` in OpenAI's shape, and then the end, without `[DONE]`, which would say that all is well.
 */
const comment = Buffer.from(': waiting\n\n');
const done = Buffer.from('data: [DONE]\n\n');

export class ClientStream {
  readonly #response: ServerResponse;
  /** Whether the client has more of our bytes waiting than it takes; no more is read from the provider meanwhile. */
  isBlocked = false;
  /** Coarse monotonic time of the last write, or of the start; the sweep's. */
  lastWriteMs: number;
  blockedSinceMs = 0;

  constructor(response: ServerResponse, nowMs: number) {
    this.#response = response;
    this.lastWriteMs = nowMs;
  }

  get isHeadSent(): boolean {
    return this.#response.headersSent;
  }

  /** @param target goes into `x-stoa-target`; null where it may still change */
  sendHead(target: string | null): void {
    if (this.#response.headersSent) return;
    const headers: Record<string, string> = {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
    };
    if (target !== null) headers['x-stoa-target'] = target;
    this.#response.writeHead(200, headers);
  }

  /**
   * What is written from now on goes out in one write with the end, or in the next turn but one of the event loop where
   * the end waits for the database. The socket is corked, not the response: `end` of a corked response sends the closing
   * chunk ahead of what it holds (Node 24).
   */
  holdForEnd(): void {
    this.#response.socket?.cork();
    setImmediate(inNextTurn, this);
  }

  /** Sends what is held. */
  letGo(): void {
    if (!this.#response.writableEnded) this.#response.socket?.uncork();
  }

  /** Complete frames. `onDrain` is called once, if the client is slow, when it takes bytes again. */
  write(bytes: Buffer, nowMs: number, onDrain: () => void): void {
    this.lastWriteMs = nowMs;
    if (this.#response.write(bytes) || this.isBlocked) return;
    this.isBlocked = true;
    this.blockedSinceMs = nowMs;
    this.#response.once('drain', () => {
      this.isBlocked = false;
      onDrain();
    });
  }

  /** Says that the request is alive. */
  sendComment(nowMs: number): void {
    this.lastWriteMs = nowMs;
    if (!this.isBlocked) this.#response.write(comment);
  }

  endWithDone(): void {
    this.#response.end(done);
  }

  endWithError(error: AppError): void {
    const { error: body } = errorBody(error.code, error.publicMessage, error.param);
    this.#response.end(`data: ${JSON.stringify({ error: body })}\n\n`);
  }

  /** Cuts a client that does not read. */
  destroy(): void {
    this.#response.destroy();
  }
}

/** The record's line is written in this turn, behind what is due already. */
function inNextTurn(stream: ClientStream): void {
  setImmediate(letGo, stream);
}

function letGo(stream: ClientStream): void {
  stream.letGo();
}
