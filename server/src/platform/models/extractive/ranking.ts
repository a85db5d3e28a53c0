import type { Sentence } from './markdown.ts';
import { sentencesOf } from './markdown.ts';
import { termsOf, withoutMarkup } from './terms.ts';

/**
 * Which sentences answer a question, by BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009)
 * with weighted fields: a term counts fully in the sentence, half in the headings above it and in the file's name, and
 * a little in the rest of its block. A sentence fits when it holds a term of the question itself and it and its headings
 * cover enough of what the question is about, a rare word weighing more than a common one; so a question about something
 * else finds nothing, whatever common words it shares with the collection.
 */
export interface SourceFile {
  /** Path relative to the collection's root, with `/`. */
  readonly name: string;
  readonly text: string;
}

export interface Citation {
  readonly file: string;
  /** Of the first character, counted from 1. */
  readonly line: number;
  /** UTF-16 offsets: `text.slice(start, end) === quote`. */
  readonly start: number;
  readonly end: number;
  readonly quote: string;
}

export interface SentenceIndex {
  readonly sentenceCount: number;
  readonly files: readonly string[];
  /** At most `limit` sentences, best first; none where nothing fits. Looks at the first 4 KiB of the question. */
  find(question: string, limit: number): readonly Citation[];
  /** All sentences that could ever be quoted. */
  all(): readonly Citation[];
}

interface Entry extends Sentence {
  readonly file: SourceFile;
  readonly length: number;
  readonly terms: ReadonlySet<string>;
  /** Below 1 for what reads badly out of its place. */
  readonly readability: number;
}

interface Posting {
  readonly entry: number;
  readonly weight: number;
  readonly isOwn: boolean;
  readonly isTitled: boolean;
}

const saturation = 1.2;
const lengthNorm = 0.6;
const headingWeight = 0.5;
const blockWeight = 0.15;
/** Share of the question's weight that a sentence and its headings must cover; found by the tests' questions. */
const minimumCoverage = 0.5;
/** A second and third sentence must come this close to the best. */
const relativeScore = 0.45;
const maximumQuestionTerms = 64;
const maximumQuestionLength = 4096;

/** Builds the index; about 20 ms for 300 KB. */
export function indexSentences(files: readonly SourceFile[]): SentenceIndex {
  const entries: Entry[] = [];
  const postings = new Map<string, Posting[]>();
  for (const file of files) addFile(file, entries, postings);
  const averageLength = entries.reduce((sum, entry) => sum + entry.length, 0) / Math.max(1, entries.length);

  return {
    sentenceCount: entries.length,
    files: files.map((file) => file.name),
    all: () => entries.map(citationOf),
    find(question, limit) {
      const asked = [...new Set(termsOf(question.slice(0, maximumQuestionLength), maximumQuestionTerms))];
      if (asked.length === 0) return [];
      const subject = definitionSubject(question);
      const scores = new Map<number, { score: number; covered: number; isOwn: boolean }>();
      let total = 0;
      for (const term of asked) {
        const list = postings.get(term) ?? [];
        const own = list.reduce((count, posting) => count + (posting.isOwn ? 1 : 0), 0);
        const rarity = Math.log(1 + (entries.length - own + 0.5) / (own + 0.5));
        total += rarity;
        for (const posting of list) {
          const entry = entries[posting.entry];
          if (!entry) continue;
          const norm = saturation * (1 - lengthNorm + lengthNorm * (entry.length / averageLength));
          const held = scores.get(posting.entry) ?? { score: 0, covered: 0, isOwn: false };
          held.score += (rarity * posting.weight * (saturation + 1)) / (posting.weight + norm);
          if (posting.isOwn) held.covered += rarity;
          else if (posting.isTitled) held.covered += 0.7 * rarity;
          held.isOwn ||= posting.isOwn;
          scores.set(posting.entry, held);
        }
      }
      const fitting = [...scores]
        .filter(([, held]) => held.isOwn && held.covered >= minimumCoverage * total)
        .flatMap(([index, held]) => {
          const entry = entries[index];
          return entry
            ? [{ entry, score: held.score * entry.readability * definitionBoost(entry, subject) }]
            : [];
        })
        .sort((a, b) => b.score - a.score);
      return pickDistinct(fitting, limit).map(citationOf);
    },
  };
}

function addFile(file: SourceFile, entries: Entry[], postings: Map<string, Posting[]>): void {
  const sentences = sentencesOf(file.text);
  const terms = sentences.map((sentence) =>
    termsOf(withoutMarkup(file.text.slice(sentence.start, sentence.end))),
  );
  const title = termsOf(file.name.replace(/\.\w+$/, ''));
  const headingTerms = new Map<string, Set<string>>();
  const ofBlock = Map.groupBy(sentences.keys(), (index) => sentences[index]?.block);
  for (const [index, sentence] of sentences.entries()) {
    const key = sentence.headings.join('\n');
    const headings = headingTerms.get(key) ?? new Set([...title, ...termsOf(withoutMarkup(key))]);
    headingTerms.set(key, headings);
    const own = terms[index] ?? [];
    const weights = new Map<string, number>();
    for (const term of own) weights.set(term, (weights.get(term) ?? 0) + 1);
    for (const term of headings) weights.set(term, (weights.get(term) ?? 0) + headingWeight);
    for (const other of ofBlock.get(sentence.block) ?? []) {
      if (other === index) continue;
      for (const term of new Set(terms[other])) weights.set(term, (weights.get(term) ?? 0) + blockWeight);
    }
    const ownTerms = new Set(own);
    const entry = entries.length;
    for (const [term, weight] of weights) {
      const list = postings.get(term) ?? [];
      list.push({ entry, weight, isOwn: ownTerms.has(term), isTitled: headings.has(term) });
      postings.set(term, list);
    }
    const readability = readabilityOf(file.text.slice(sentence.start, sentence.end));
    entries.push({ ...sentence, file, length: own.length, terms: ownTerms, readability });
  }
}

/** Sentences that lean on the one before, begin in the middle, or don't end, are worth less. */
function readabilityOf(sentence: string): number {
  let worth = 1;
  if (
    /^(?:it|its|they|their|them|this|these|that|those|he|she|so|but|and|or|then|otherwise|there)\b/i.test(
      sentence,
    )
  ) {
    worth *= 0.75;
  }
  if (/^[a-z]/.test(sentence)) worth *= 0.85;
  if (!/[.!?]["'”’)*_`\]]*$/.test(sentence)) worth *= 0.8;
  return worth;
}

/** What "what is X" asks for, or null. */
function definitionSubject(question: string): string | null {
  const match = /\bwhat(?:'s| is| are)\s+(?:an?\s+|the\s+)?([\p{L}\p{N} _-]{2,40}?)\s*[?.!]*\s*$/iu.exec(
    question.slice(0, 200),
  );
  return match?.[1]?.toLowerCase() ?? null;
}

/** "X is ..." at the beginning, or "a X is ..." anywhere; "the next X is ..." defines nothing. */
function definitionBoost(entry: Entry, subject: string | null): number {
  if (subject === null) return 1;
  const sentence = entry.file.text.slice(entry.start, entry.end).toLowerCase().replace(/[*_`]/g, '');
  for (const verb of [' is ', ' are ']) {
    if (sentence.replace(/^(?:an?|the) /, '').startsWith(subject + verb)) return 2.4;
    if (sentence.includes(` a ${subject}${verb}`) || sentence.includes(` an ${subject}${verb}`)) return 2.2;
  }
  return 1;
}

function pickDistinct(ranked: readonly { entry: Entry; score: number }[], limit: number): Entry[] {
  const picked: Entry[] = [];
  const best = ranked[0]?.score ?? 0;
  for (const { entry, score } of ranked) {
    if (picked.length >= limit || score < relativeScore * best) break;
    if (!picked.some((other) => overlap(other.terms, entry.terms) > 0.7)) picked.push(entry);
  }
  return picked;
}

function overlap(a: ReadonlySet<string>, b: ReadonlySet<string>): number {
  let shared = 0;
  for (const term of a) if (b.has(term)) shared++;
  return shared / Math.max(1, Math.min(a.size, b.size));
}

function citationOf(entry: Entry): Citation {
  return {
    file: entry.file.name,
    line: entry.line,
    start: entry.start,
    end: entry.end,
    quote: entry.file.text.slice(entry.start, entry.end),
  };
}
