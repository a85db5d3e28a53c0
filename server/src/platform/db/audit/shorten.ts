import { hash } from 'node:crypto';

/**
 * JSON text of at most `maximum` characters of what JSON can hold. What is large is shortened first and no more than needed:
 * texts (names of members too) to their beginning, the longest first; then lists and objects to their first members, those
 * of many members first. Each says how long it was, and by the beginning of a SHA-256 whether another one is the same; so
 * no change hides behind the size of another, nor behind the place where something is cut.
 */
export function shortenedJson(value: unknown, maximum: number): string {
  for (const bounds of stages) {
    const text = JSON.stringify(shorten(value, bounds));
    if (text.length <= maximum) return text;
  }
  return JSON.stringify(shorten(value, { text: shortestText, members: maximum / 2, spared: 0 }));
}

interface Bounds {
  /** Characters of a text. */
  readonly text: number;
  /** Characters of JSON in a list or object; half of it in one that is in that. */
  readonly members: number;
  /** A list or object of at most so many members is kept whole. */
  readonly spared: number;
}

const shortestText = 64;
/** More than a resource has fields. */
const fewMembers = 32;
const stages: readonly Bounds[] = [
  ...[4096, 2048, 1024, 512, 256, 128, shortestText].map((text) => ({ text, members: Infinity, spared: 0 })),
  ...[8192, 4096, 2048, 1024, 512].map((members) => ({ text: shortestText, members, spared: fewMembers })),
];

function shorten(value: unknown, bounds: Bounds): unknown {
  if (typeof value === 'string') return shortText(value, bounds.text);
  if (typeof value !== 'object' || value === null) return value;
  const inner = { ...bounds, members: bounds.members / 2 };
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value;
    const short = items.map((item) => shorten(item, inner));
    const kept = firstWithin(short, bounds, sizeOf);
    return kept === short.length ? short : [...short.slice(0, kept), restOf(value, kept, short.length)];
  }
  const short = Object.entries(value).map(
    ([name, member]) => [shortText(name, bounds.text), shorten(member, inner)] as const,
  );
  const kept = firstWithin(short, bounds, ([name, member]) => sizeOf(name) + sizeOf(member) + 1);
  return Object.fromEntries(
    kept === short.length ? short : [...short.slice(0, kept), ['…', restOf(value, kept, short.length)]],
  );
}

function shortText(text: string, characters: number): string {
  if (text.length <= characters) return text;
  return `${text.slice(0, characters).toWellFormed()}… [${text.length} characters, SHA-256 ${digestOf(text)}]`;
}

function restOf(whole: object, kept: number, count: number): string {
  const text = JSON.stringify(whole);
  return `[${count - kept} more of ${count}; ${text.length} characters in all, SHA-256 ${digestOf(text)}]`;
}

function digestOf(text: string): string {
  return hash('sha256', text, 'hex').slice(0, 16);
}

/** How many of the first members are within the bounds. */
function firstWithin<Item>(
  items: readonly Item[],
  { members, spared }: Bounds,
  size: (item: Item) => number,
): number {
  if (members === Infinity || items.length <= spared) return items.length;
  let characters = 0;
  for (const [index, item] of items.entries()) {
    characters += size(item) + 1;
    if (characters > members) return index;
  }
  return items.length;
}

function sizeOf(value: unknown): number {
  return value === undefined ? 0 : JSON.stringify(value).length;
}
