import { isUtf8 } from 'node:buffer';

/**
 * JSON objects of tokens, read so that two readers can never see two things in one text: bytes that are no UTF-8, a
 * member that is there twice, and anything that is no object are refused. `JSON.parse` takes the last of two members,
 * others the first; whoever checks a token and whoever acts on it must not differ in that.
 */
const deepest = 16;

/** The object, or null where the bytes are no JSON object, name a member twice or nest deeper than 16 levels. */
export function parseStrictObject(bytes: Buffer): Readonly<Record<string, unknown>> | null {
  if (!isUtf8(bytes)) return null;
  const text = bytes.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isRecord(value) && hasUniqueMembers(text) ? value : null;
}

/** The member of that name, undefined where the object itself has none: what it inherits does not count. */
export function memberOf(object: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A pass over text that is known to be JSON. A string is a member's name where a colon follows. */
function hasUniqueMembers(text: string): boolean {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '{' || character === '[') {
      if (open.length === deepest) return false;
      open.push(new Set());
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === '"') {
      const end = endOfString(text, at);
      if (isColonNext(text, end + 1)) {
        const names = open.at(-1);
        const name = JSON.stringify(JSON.parse(text.slice(at, end + 1)));
        if (names === undefined || names.has(name)) return false;
        names.add(name);
      }
      at = end;
    }
  }
  return true;
}

/** Where the string that begins at `start` has its closing quote. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at;
}

function isColonNext(text: string, from: number): boolean {
  let at = from;
  while (at < text.length && ' \t\r\n'.includes(text.charAt(at))) at += 1;
  return text[at] === ':';
}
