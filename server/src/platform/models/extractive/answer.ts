import { estimateTokens } from '../in-process/chat-frames.ts';
import type { Citation, SentenceIndex } from './ranking.ts';

/** What the engine says to one question. */
export interface ExtractiveAnswer {
  readonly text: string;
  /** Of the quotations that the text holds in full, in its order. */
  readonly citations: readonly Citation[];
  /** `length` where the output limit cost a quotation, or a part of the text. */
  readonly finishReason: 'stop' | 'length';
}

const maximumQuotations = 3;
const closing = 'These are quotations; no text was generated.';

/**
 * Answers a question with up to three sentences of the collection, each verbatim with its file and line, or says that
 * nothing fits. Where an output limit is given, it keeps to it by quoting fewer sentences, and in the end by cutting.
 * @param maximumTokens estimated as bytes over four; null for no limit
 */
export function answerQuestion(
  index: SentenceIndex,
  question: string,
  maximumTokens: number | null,
): ExtractiveAnswer {
  const found = index.find(question, maximumQuotations);
  for (let count = found.length; count >= 0; count--) {
    const citations = found.slice(0, count);
    const text = count === 0 ? emptyAnswer(index, found.length > 0) : quotationAnswer(citations);
    if (maximumTokens === null || estimateTokens(Buffer.byteLength(text)) <= maximumTokens) {
      return { text, citations, finishReason: count < found.length ? 'length' : 'stop' };
    }
    if (count <= 1) return cutAnswer(text, citations, maximumTokens);
  }
  return { text: emptyAnswer(index, false), citations: [], finishReason: 'stop' };
}

function quotationAnswer(citations: readonly Citation[]): string {
  const files = new Set(citations.map((citation) => citation.file));
  const opening = files.size === 1 ? 'The collection says:' : 'The collection says, in several places:';
  const quotations = citations.map(
    (citation) => `"${citation.quote}" (${citation.file}, line ${citation.line})`,
  );
  return [opening, ...quotations, closing].join('\n\n');
}

function emptyAnswer(index: SentenceIndex, wasFound: boolean): string {
  if (wasFound) return closing;
  if (index.files.length === 0) return 'Nothing in the collection answers this: it holds no documents.';
  return (
    `Nothing in the collection answers this. It holds ${index.files.length} documents about this platform, ` +
    'and this engine only quotes them; ask for another model to have text generated.'
  );
}

/** Cuts at a word, so that the text keeps within the limit and stays well-formed. */
function cutAnswer(text: string, citations: readonly Citation[], maximumTokens: number): ExtractiveAnswer {
  let kept = Buffer.from(text)
    .subarray(0, Math.max(1, maximumTokens) * 4)
    .toString('utf8')
    .replace(/\uFFFD+$/, '');
  const space = kept.lastIndexOf(' ');
  if (space > 0) kept = kept.slice(0, space);
  return {
    text: kept,
    citations: citations.filter((citation) => kept.includes(`"${citation.quote}"`)),
    finishReason: 'length',
  };
}
