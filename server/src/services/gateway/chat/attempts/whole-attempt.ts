import { type ProviderFault, providerFault } from '#models';
import { type CheckedAnswer, checkAnswer, maximumAnswerBytes } from '../answers/whole-answer.ts';
import { Attempt, type AttemptPorts } from './attempt.ts';

export interface WholeAttemptOwner {
  onAnswer(attempt: WholeAttempt, answer: CheckedAnswer): void;
  onAttemptFault(attempt: Attempt, fault: ProviderFault): void;
  /** A fault of our own code inside a callback of the provider. */
  onCrash(thrown: unknown): void;
}

/** An attempt whose answer comes in one piece: nothing of it reaches the client before all of it was checked. */
export class WholeAttempt extends Attempt {
  readonly #owner: WholeAttemptOwner;
  readonly #operation: 'chat.completions' | 'embeddings';
  #chunks: Buffer[] = [];
  #bytes = 0;
  #isOver = false;

  constructor(ports: AttemptPorts, operation: 'chat.completions' | 'embeddings', owner: WholeAttemptOwner) {
    super(ports);
    this.#operation = operation;
    this.#owner = owner;
  }

  onData(chunk: Buffer): boolean {
    if (this.#isOver) return true;
    this.#bytes += chunk.length;
    if (this.#bytes > maximumAnswerBytes) {
      const fault = providerFault('unreadable', 'the answer is longer than 64 MiB');
      this.cancel();
      this.onFault(fault);
      return true;
    }
    this.#chunks.push(chunk);
    return true;
  }

  silence(): void {
    this.#isOver = true;
    this.#chunks = [];
  }

  onEnd(): void {
    this.markUpstreamOver();
    if (this.#isOver) return;
    this.#isOver = true;
    try {
      const [first] = this.#chunks;
      const body = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks);
      this.#chunks = [];
      const answer = this.contentType === 'text/html' ? htmlFault() : checkAnswer(this.#operation, body);
      if ('kind' in answer) this.#owner.onAttemptFault(this, answer);
      else this.#owner.onAnswer(this, answer);
    } catch (thrown) {
      this.#owner.onCrash(thrown);
    }
  }

  onFault(fault: ProviderFault): void {
    this.markUpstreamOver();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#chunks = [];
    try {
      this.#owner.onAttemptFault(this, fault);
    } catch (thrown) {
      this.#owner.onCrash(thrown);
    }
  }
}

function htmlFault(): ProviderFault {
  return providerFault('unreadable', 'the answer is HTML');
}
