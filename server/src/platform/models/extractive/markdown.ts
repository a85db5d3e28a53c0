/**
 * Sentences of a Markdown file, as spans of the file itself: `text.slice(start, end)` is the sentence, so a quotation
 * can be checked against the file by anybody. Lines are read once, in order. A line is either skipped (code, tables,
 * HTML, front matter, rules), a heading (context of what follows), or part of a block of prose: a paragraph or a list
 * item, which ends at a blank line, a heading, or the next item. Blocks are then cut into sentences.
 */
export interface Sentence {
  /** UTF-16 offsets in the file's text; `end` is exclusive. */
  readonly start: number;
  readonly end: number;
  /** Of its first character; counted from 1. */
  readonly line: number;
  /** The headings above it, outermost first. */
  readonly headings: readonly string[];
  /** Which block of the file it belongs to; sentences of one block stand together. */
  readonly block: number;
}

interface Line {
  readonly start: number;
  readonly text: string;
  readonly number: number;
}

/** A stretch of prose: its lines' contents without indentation, list marker or quote marker. */
interface Block {
  readonly headings: readonly string[];
  readonly pieces: { start: number; end: number; line: number }[];
}

const maximumSentenceLength = 600;
/** What is longer is no prose; with the bounds in the patterns below, hostile files take linear time. */
const maximumLineLength = 10_000;
const maximumBlockLength = 20_000;
const maximumHeadingLength = 300;
const minimumWords = 4;

/** All sentences of a Markdown text in order of appearance. */
export function sentencesOf(text: string): Sentence[] {
  const found: Sentence[] = [];
  for (const [index, block] of blocksOf(text).entries()) {
    for (const [start, end] of cutBlock(text, block)) {
      const line = block.pieces.findLast((piece) => piece.start <= start)?.line ?? 1;
      found.push({ start, end, line, headings: block.headings, block: index });
    }
  }
  return found;
}

function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  let start = 0;
  for (const raw of text.split('\n')) {
    lines.push({ start, text: raw.replace(/\r$/, ''), number: lines.length + 1 });
    start += raw.length + 1;
  }
  return lines;
}

const fence = /^ {0,3}(?:> ?)*(?:[-*+] +|\d+[.)] +)?\s*(`{3,}|~{3,})/;
const heading = /^ {0,3}(#{1,6})\s+(\S.*)$/;
const rule = /^ {0,3}([-*_=])(?:\s*\1){2,}\s*$/;
const item = /^(\s*(?:>\s?)*)([-*+]|\d{1,9}[.)])(\s+)(\[[ xX]\]\s+)?/;
const prefix = /^\s*(?:>\s?)*\s*/;
const tableRow = /^\s*\||^\s*:?-{2,}:?\s*\|/;

function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  const path: string[] = [];
  let current: Block | null = null;
  let closingFence: string | null = null;
  let isHtml = false;
  let wasBlank = true;
  let isInList = false;
  for (const line of withoutFrontMatter(linesOf(text))) {
    const fenceMark = fence.exec(line.text)?.[1];
    if (closingFence !== null) {
      if (fenceMark?.startsWith(closingFence) && /[`~]\s*$/.test(line.text)) closingFence = null;
      continue;
    }
    const isBlank = line.text.trim() === '';
    if (isHtml) {
      isHtml = !isBlank;
      wasBlank = isBlank;
      continue;
    }
    if (line.text.length > maximumLineLength) {
      current = null;
      continue;
    }
    if (fenceMark !== undefined || isBlank || tableRow.test(line.text) || rule.test(line.text)) {
      if (fenceMark !== undefined) closingFence = fenceMark;
      if (/^ {0,3}(=+|-+)\s*$/.test(line.text) && current) underlineHeading(text, line.text, blocks, path);
      current = null;
      wasBlank = isBlank;
      continue;
    }
    const title = heading.exec(line.text);
    if (title) {
      setHeading(path, (title[1] ?? '#').length, title[2] ?? '');
      current = null;
      isInList = false;
    } else if (wasBlank && /^\s*<[!/a-zA-Z]/.test(line.text)) {
      isHtml = true;
      current = null;
    } else {
      const marker = item.exec(line.text);
      const isCode = wasBlank && !isInList && !marker && /^(?: {4}|\t)/.test(line.text);
      if (!isCode) {
        if (marker) isInList = true;
        else if (wasBlank && !/^\s/.test(line.text)) isInList = false;
        if (!current || marker) {
          current = { headings: path.filter((name) => name !== ''), pieces: [] };
          blocks.push(current);
        }
        addPiece(current, line, marker?.[0].length ?? prefix.exec(line.text)?.[0].length ?? 0);
      }
    }
    wasBlank = false;
  }
  return blocks;
}

function withoutFrontMatter(lines: Line[]): Line[] {
  if (lines[0]?.text !== '---') return lines;
  const end = lines.findIndex((line, index) => index > 0 && line.text === '---');
  return end === -1 ? lines : lines.slice(end + 1);
}

function setHeading(path: string[], level: number, name: string): void {
  path.length = Math.min(path.length, level - 1);
  while (path.length < level - 1) path.push('');
  path.push(
    name
      .slice(0, maximumHeadingLength)
      .replace(/\s#+\s*$/, '')
      .trim(),
  );
}

/** A paragraph with `===` or `---` beneath it was a heading all along. */
function underlineHeading(text: string, underline: string, blocks: Block[], path: string[]): void {
  const block = blocks.pop();
  const first = block?.pieces[0];
  const last = block?.pieces.at(-1);
  if (first && last)
    setHeading(path, underline.trim().startsWith('=') ? 1 : 2, text.slice(first.start, last.end));
}

function addPiece(block: Block, line: Line, skip: number): void {
  const content = line.text.slice(skip).trimEnd();
  if (content === '') return;
  block.pieces.push({ start: line.start + skip, end: line.start + skip + content.length, line: line.number });
}

const abbreviation =
  /(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|nos|fig|sec|mr|mrs|dr|st|a\.m|p\.m|U\.S)|\b[A-Z])\.$/i;
const longestAbbreviation = 12;
const sentenceEnd = /[.!?]{1,5}["'”’)\]*_]{0,10}(?=\s|$)/g;
const sentenceStart = /^[>\s]*[\p{Lu}\p{N}"'“‘([*_`]/u;

/**
 * Cuts a block at `.`, `!` or `?` (with closing quotes, brackets and emphasis behind it) where white space and the
 * beginning of a sentence follow; never inside `code` or a link. Fragments of fewer than four words, and what only
 * introduces a list or is over-long, are left out: they don't read well alone.
 */
function cutBlock(text: string, block: Block): [number, number][] {
  const first = block.pieces[0];
  const last = block.pieces.at(-1);
  if (!first || !last || last.end - first.start > maximumBlockLength) return [];
  const source = text.slice(first.start, last.end);
  const shut = withClosedSpans(source);
  const spans: [number, number][] = [];
  let from = 0;
  for (const match of shut.matchAll(sentenceEnd)) {
    const to = match.index + match[0].length;
    const isLast = to === shut.length;
    if (!isLast && !sentenceStart.test(shut.slice(to, to + 100))) continue;
    const before = shut.slice(Math.max(from, match.index - longestAbbreviation), match.index + 1);
    if (!isLast && abbreviation.test(before)) continue;
    spans.push([from, to]);
    from = to;
  }
  if (from < shut.length) spans.push([from, shut.length]);
  return spans.flatMap(([start, end]) => asSentence(source, start, end, first.start));
}

/** The text with inline code, links and addresses blanked out, offsets unchanged. */
function withClosedSpans(source: string): string {
  const blank = (found: string): string => '`'.repeat(found.length);
  return source
    .replace(/(?<!`)(`{1,3})(?!`)[^`]{1,500}\1(?!`)/g, blank)
    .replace(/\[[^[\]]{0,300}\]\([^()\n]{0,500}\)/g, blank)
    .replace(/<https?:[^<>\s]{0,500}>/g, blank);
}

function asSentence(source: string, start: number, end: number, offset: number): [number, number][] {
  const raw = source.slice(start, end);
  const lead = /^[\s>]*/.exec(raw)?.[0].length ?? 0;
  const sentence = raw.slice(lead).trimEnd();
  const words = sentence.match(/[\p{L}\p{N}][\p{L}\p{N}'’_-]*/gu)?.length ?? 0;
  if (words < minimumWords || sentence.length > maximumSentenceLength || sentence.endsWith(':')) return [];
  if (!hasBalancedMarks(sentence)) return [];
  return [[offset + start + lead, offset + start + lead + sentence.length]];
}

/** Half of an emphasis, of a code span or of a bracket reads badly outside of its paragraph. */
function hasBalancedMarks(sentence: string): boolean {
  const prose = sentence.replace(/`[^`]*`/g, '');
  if (prose.includes('`') || (prose.match(/\*\*/g)?.length ?? 0) % 2 === 1) return false;
  let depth = 0;
  for (const letter of prose) {
    if (letter === '(' || letter === '[') depth++;
    else if (letter === ')' || letter === ']') depth--;
    if (depth < 0) return false;
  }
  return depth === 0;
}
