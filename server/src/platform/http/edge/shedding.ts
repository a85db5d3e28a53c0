import { performance } from 'node:perf_hooks';

/**
 * Refusing work early when there is more than the process can do.
 *
 * Node takes what lies ready on its sockets in one phase of its event loop and works it off before it looks again, so the
 * time of one iteration is how long a request waits for its turn: the queue's delay. As long as that is short, or long
 * only now and then (a garbage collection, a neighbour on the machine), nothing is refused: as in CoDel, the least of the
 * last samples counts, not their mean. Once it lasts, requests are refused at their head, which costs little more than Node's
 * own parsing and writing, by priority:
 *
 *   batch        from a third of the bearable delay on
 *   agent-step   from two thirds on
 *   interactive  from the bearable delay on, and only those that come late in a phase: each phase admits for `admitMs`,
 *                which shrinks while iterations are too long and grows while they are not
 *
 * The last state ends when a while passed in which nothing would have had to be refused. The first requests of each phase
 * are let through whatever the delay: with so few connections no queue is worth refusing anybody, and a process that
 * merely gets no CPU would otherwise refuse work that it could do.
 *
 * Costs a comparison a request, and a sample of the loop's counters each 25 ms while requests come.
 */
export const priorities = ['interactive', 'agent-step', 'batch'] as const;
export type Priority = (typeof priorities)[number];

/** What the event loop has done since the process began. */
export interface LoopReading {
  /** Milliseconds in which it was not waiting for anything to do. */
  readonly activeMs: number;
  readonly iterations: number;
}

export interface SheddingPorts {
  readLoop(): LoopReading;
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls once, when the phase that runs is over. */
  afterPhase(work: () => void): void;
  /** Calls again and again until the answer is called. */
  each(ms: number, work: () => void): () => void;
}

const sampleMs = 25;
/** Samples of which the least counts. */
const samples = 6;
/** Without a request for so many samples nothing is sampled any more. */
const quietSamples = 40;
/** Samples without a refusal that end an overload. */
const calmSamples = 12;
/** An overloaded loop is steered to this part of what is bearable, so that its longest rounds stay near the whole. */
const steeredPart = 0.6;
const sparedInteractive = 64;
const sparedOthers = 8;

const systemPorts: SheddingPorts = {
  readLoop() {
    const { active } = performance.eventLoopUtilization();
    return { activeMs: active, iterations: performance.nodeTiming.uvMetricsInfo.loopCount };
  },
  now: () => performance.now(),
  afterPhase: (work) => void setImmediate(work),
  each(ms, work) {
    const timer = setInterval(work, ms).unref();
    return () => clearInterval(timer);
  },
};

export class LoadShedding {
  readonly #bearableMs: number;
  readonly #ports: SheddingPorts;
  readonly #recent = new Float64Array(samples);
  #next = 0;
  #standingMs = 0;
  #last: LoopReading = { activeMs: 0, iterations: 0 };
  #stop: (() => void) | null = null;
  #quiet = 0;
  #isOverloaded = false;
  #admitMs: number;
  #calm = 0;
  #phaseStartMs = 0;
  /** Requests of the phase that runs; 0 before its first one. */
  #inPhase = 0;
  readonly #endPhase = (): void => {
    this.#inPhase = 0;
  };

  /** @param bearableMs how long a request may lastingly wait for its turn; 0 never refuses anything */
  constructor(bearableMs: number, ports: SheddingPorts = systemPorts) {
    this.#bearableMs = bearableMs;
    this.#ports = ports;
    this.#admitMs = bearableMs / 2;
  }

  /** How long requests have waited lastingly, in milliseconds. */
  get delayMs(): number {
    return this.#standingMs;
  }

  get isOverloaded(): boolean {
    return this.#isOverloaded;
  }

  /** Whether a request that has just come is to be refused. */
  refuses(priority: Priority): boolean {
    if (this.#bearableMs === 0) return false;
    this.#quiet = 0;
    if (this.#stop === null) this.#begin();
    if (this.#standingMs * 3 < this.#bearableMs && !this.#isOverloaded) return false;
    const isRefused = this.#isRefused(priority);
    if (isRefused) this.#calm = 0;
    return isRefused;
  }

  #isRefused(priority: Priority): boolean {
    const nowMs = this.#ports.now();
    if (this.#inPhase === 0) {
      this.#phaseStartMs = nowMs;
      this.#ports.afterPhase(this.#endPhase);
    }
    this.#inPhase += 1;
    if (priority === 'interactive')
      return (
        this.#isOverloaded && this.#inPhase > sparedInteractive && nowMs - this.#phaseStartMs > this.#admitMs
      );
    if (this.#inPhase <= sparedOthers) return false;
    const bearablePart = priority === 'batch' ? 1 / 3 : 2 / 3;
    return this.#isOverloaded || this.#standingMs > this.#bearableMs * bearablePart;
  }

  #begin(): void {
    this.#last = this.#ports.readLoop();
    this.#stop = this.#ports.each(sampleMs, () => this.#sample());
  }

  #sample(): void {
    const reading = this.#ports.readLoop();
    const iterations = Math.max(1, reading.iterations - this.#last.iterations);
    const delayMs = (reading.activeMs - this.#last.activeMs) / iterations;
    this.#last = reading;
    this.#recent[this.#next] = delayMs;
    this.#next = (this.#next + 1) % samples;
    this.#standingMs = Math.min(...this.#recent);
    if (this.#isOverloaded) this.#steer(delayMs);
    else if (this.#standingMs > this.#bearableMs) {
      this.#isOverloaded = true;
      this.#calm = 0;
      this.#admitMs = this.#bearableMs / 2;
    }
    this.#quiet += 1;
    if (this.#quiet > quietSamples) this.end();
  }

  #steer(delayMs: number): void {
    if (delayMs > this.#bearableMs * steeredPart) this.#admitMs = Math.max(1, this.#admitMs * 0.85);
    else this.#admitMs = Math.min(this.#bearableMs, this.#admitMs + 0.5);
    this.#calm += 1;
    if (this.#calm > calmSamples) this.#isOverloaded = false;
  }

  /** Stops the sampling, which the next request begins anew. */
  end(): void {
    this.#stop?.();
    this.#stop = null;
    this.#quiet = 0;
    this.#recent.fill(0);
    this.#standingMs = 0;
    this.#isOverloaded = false;
  }
}

/** The priority that a request asks for. It can only lower itself: anything else than the two lower ones is interactive. */
export function priorityOf(header: string | string[] | undefined): Priority {
  return header === 'batch' || header === 'agent-step' ? header : 'interactive';
}
