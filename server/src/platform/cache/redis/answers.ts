import { ErrorReply } from '@redis/client';

/** Whether an error is the server's own refusal of a command; all others are of the line. */
export function isServerAnswer(error: unknown): error is Error {
  return error instanceof ErrorReply;
}

/** Error replies have no code but the word that they begin with. */
export function isScriptMissing(error: unknown): boolean {
  return isServerAnswer(error) && error.message.startsWith('NOSCRIPT');
}

/**
 * Refusals that say nothing of the command but that the server cannot serve it now: it is no longer the primary, it loads
 * its data, its memory or disk is full, a script of somebody's blocks it, or this login may not. Redis 7 puts the word of a
 * command inside a script first; Redis 6 puts it behind a dash at the end of its own sentence.
 */
const unable =
  /^(?:ERR Error running script.*-)?(READONLY|LOADING|MASTERDOWN|OOM|BUSY|MISCONF|NOREPLICAS|CLUSTERDOWN|NOAUTH|NOPERM) /;

/** The word of such a refusal, or null. */
export function unableWord(error: unknown): string | null {
  return isServerAnswer(error) ? (unable.exec(error.message)?.[1] ?? null) : null;
}

/** What a script answered as a list of whole numbers; throws where it is anything else. */
export function numbersIn(answer: unknown): readonly number[] {
  if (Array.isArray(answer)) {
    const numbers = answer.map(Number);
    if (numbers.every(Number.isSafeInteger)) return numbers;
  }
  throw new Error('the answer of Redis has another shape than its script gives');
}

/** Text or nothing. */
export function textIn(answer: unknown): string | null {
  if (answer === null || answer === undefined) return null;
  if (typeof answer === 'string') return answer;
  throw new Error('the answer of Redis has another shape than its script gives');
}

/** A list of texts or nothing each. */
export function textsIn(answer: unknown): readonly (string | null)[] {
  if (Array.isArray(answer)) return answer.map(textIn);
  throw new Error('the answer of Redis has another shape than its script gives');
}
