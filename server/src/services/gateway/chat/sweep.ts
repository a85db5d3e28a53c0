import { type Clock, Roster, type RosterPlace } from '#kernel';

/**
 * One coarse timer for all running requests: no request has a timer of its own, and the path of a token reads no clock.
 * Deadlines are therefore met up to one interval late.
 */
export interface Swept {
  /** Looks at its own deadlines. Called once per interval until it leaves. */
  sweep(nowMs: number): void;
}

const sweepIntervalMs = 100;

export class Sweep {
  /** Monotonic milliseconds as of the last interval; what the path of a token takes for "now". */
  nowMs: number;
  readonly #clock: Clock;
  readonly #members = new Roster<Swept>();
  #timer: NodeJS.Timeout | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.nowMs = clock.monotonic();
  }

  get size(): number {
    return this.#members.size;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.tick(), sweepIntervalMs).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  join(member: Swept): RosterPlace<Swept> {
    return this.#members.add(member);
  }

  /** Leaving twice does nothing. */
  leave(place: RosterPlace<Swept>): void {
    this.#members.remove(place);
  }

  /** One interval's work; tests call it after moving the clock. */
  tick(): void {
    this.nowMs = this.#clock.monotonic();
    this.#members.forEach((member) => member.sweep(this.nowMs));
  }
}
