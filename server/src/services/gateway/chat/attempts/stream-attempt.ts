import { type ProviderFault, providerFault } from '#models';
import { type Batch, FrameRelay, type FrameRelaySettings } from '../answers/frame-relay.ts';
import type { Gathering } from '../answers/gathering.ts';
import { Attempt, type AttemptPorts } from './attempt.ts';

export interface StreamAttemptOwner {
  /**
   * Bytes of frames that may go out; the first call is the stream's first frame.
   * @param isLast `onDone` follows at once
   */
  onFrames(attempt: StreamAttempt, pieces: readonly Buffer[], isLast: boolean): void;
  /** `[DONE]` came; nothing more will. */
  onDone(attempt: StreamAttempt): void;
  onAttemptFault(attempt: Attempt, fault: ProviderFault): void;
  /** Whether the client takes no more for now. */
  readonly isBlocked: boolean;
  onCrash(thrown: unknown): void;
}

/**
 * An attempt whose answer is a stream.
 *
 * A provider in a hurry sends its frames as many small chunks, which arrive in one read of the socket and are handed
 * over one by one. They are gathered until that read is over (a microtask later), so that the client gets one write and
 * the frames one scan; a frame that comes alone waits for nothing.
 */
export class StreamAttempt extends Attempt {
  readonly relay: FrameRelay;
  readonly #gathering: Gathering;
  readonly #owner: StreamAttemptOwner;
  #chunks: Buffer[] = [];
  #isFlushPlanned = false;
  #isOver = false;

  constructor(
    ports: AttemptPorts,
    settings: FrameRelaySettings,
    gathering: Gathering,
    owner: StreamAttemptOwner,
  ) {
    super(ports);
    this.relay = new FrameRelay(settings);
    this.#gathering = gathering;
    this.#owner = owner;
  }

  /** A provider that waits for us is not silent by its own fault. */
  override isPastDeadline(nowMs: number, isPaused: boolean): boolean {
    if (super.isPastDeadline(nowMs, isPaused)) return true;
    const { firstFrameMs, betweenFramesMs } = this.ports.target.deadlines;
    if (this.firstTokenMs === null) return nowMs - this.ports.startedMs >= firstFrameMs;
    return !isPaused && nowMs - this.lastFrameMs >= betweenFramesMs;
  }

  onData(chunk: Buffer): boolean {
    if (this.#isOver) return true;
    this.#chunks.push(chunk);
    if (!this.#isFlushPlanned) {
      this.#isFlushPlanned = true;
      queueMicrotask(this.#flush);
    }
    return !this.#owner.isBlocked;
  }

  onEnd(): void {
    this.markUpstreamOver();
    this.#flush();
    if (this.#isOver) return;
    try {
      this.#take(this.relay.end());
    } catch (thrown) {
      this.#owner.onCrash(thrown);
    }
  }

  onFault(fault: ProviderFault): void {
    this.markUpstreamOver();
    this.#flush();
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      this.#owner.onAttemptFault(this, fault);
    } catch (thrown) {
      this.#owner.onCrash(thrown);
    }
  }

  /** Nothing more is told to the owner. */
  silence(): void {
    this.#isOver = true;
    this.#chunks = [];
  }

  readonly #flush = (): void => {
    this.#isFlushPlanned = false;
    if (this.#isOver || this.#chunks.length === 0) return;
    try {
      if (isNoStream(this.contentType)) {
        this.#fail(providerFault('unreadable', `the stream is ${this.contentType}`));
        return;
      }
      const bytes = this.#gathering.join(this.#chunks);
      this.#chunks = [];
      this.#take(this.relay.feed(bytes));
    } catch (thrown) {
      this.#owner.onCrash(thrown);
    }
  };

  #take(batch: Batch): void {
    if (batch.pieces.length > 0) this.#owner.onFrames(this, batch.pieces, batch.isDone);
    if (this.#isOver) return;
    if (batch.isDone) {
      this.#isOver = true;
      this.#owner.onDone(this);
    } else if (batch.fault !== null) this.#fail(batch.fault);
  }

  #fail(fault: ProviderFault): void {
    this.#isOver = true;
    this.cancel();
    this.#owner.onAttemptFault(this, fault);
  }
}

/** Some servers name no media type or a wrong one for a good stream, but these two are none. */
function isNoStream(contentType: string): boolean {
  return contentType === 'text/html' || contentType === 'application/json';
}
