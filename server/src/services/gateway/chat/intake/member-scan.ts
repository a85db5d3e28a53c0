import { AppError, maximumJsonDepth } from '#kernel';

/**
 * Where the top-level members of a JSON body lie, as byte offsets.
 *
 * Problem: the body must reach the provider as the client wrote it (parsing and writing it again changes large integers,
 * drops repeated keys and costs time), yet `model`, `stream_options` and an output limit must sometimes change. And two
 * parsers that disagree on a body (repeated keys, keys that differ in case) are a way around limits and billing.
 *
 * Approach: one pass over the bytes. Outside of strings every byte is looked at; inside, the first bytes are looked at
 * one by one and the rest is skipped by native search, so that an image in base64 costs nothing to speak of. The pass
 * does not check the grammar: it is followed by JSON.parse, and its offsets are used only where that succeeds.
 *
 * Bounds: depth `maximumJsonDepth`; `maximumParts` members and containers, since a body of 20 MiB of `[]` would hold
 * the event loop for a second and take hundreds of MiB once parsed.
 */
export interface Member {
  readonly name: string;
  /** Offset of the quote that opens the key. */
  readonly keyStart: number;
  readonly valueStart: number;
  /** Offset behind the value's last byte. */
  readonly valueEnd: number;
}

export interface ScannedObject {
  /** Offset behind the `{` that opens the object. */
  readonly contentStart: number;
  /** Whether it has any member, known or not. */
  readonly isEmpty: boolean;
  /** The members whose names were asked for. */
  readonly members: readonly Member[];
}

/** Most members and containers of one body together. */
export const maximumParts = 100_000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** Strings shorter than this are cheaper to walk than to search natively. */
const walkedBytes = 48;

/** A set of names, arranged so that most other keys are told apart by their length. */
export interface NameSet {
  readonly names: ReadonlySet<string>;
  readonly longest: number;
}

export function nameSet(names: readonly string[]): NameSet {
  return { names: new Set(names), longest: Math.max(...names.map((name) => name.length)) };
}

/**
 * Scans an object.
 * @param bytes valid UTF-8
 * @param wanted lower-case names of the members to tell
 * @returns null where the first byte that is no space does not open an object
 * @throws `json_too_deep`; `invalid_request` where a wanted member is repeated or its name is written in another case,
 *   or where the body has too many parts
 */
export function scanObject(bytes: Buffer, wanted: NameSet): ScannedObject | null {
  const open = skipSpace(bytes, 0);
  if (bytes[open] !== OPEN_BRACE) return null;
  const members: Member[] = [];
  const walk = new Walk(bytes);
  let at = open + 1;
  let isEmpty = true;
  for (;;) {
    const keyStart = walk.nextKey(at);
    if (keyStart === -1) break;
    isEmpty = false;
    const keyEnd = endOfString(bytes, keyStart + 1);
    const valueStart = skipSpace(bytes, skipColon(bytes, keyEnd + 1));
    const valueEnd = walk.endOfValue(valueStart);
    const name = wantedName(bytes, keyStart + 1, keyEnd, wanted);
    if (name !== null) {
      if (members.some((member) => member.name === name)) throw repeated(name);
      members.push({ name, keyStart, valueStart, valueEnd });
    }
    at = valueEnd;
  }
  return { contentStart: open + 1, isEmpty, members };
}

/** The pass itself; counts what it meets over the whole body. */
class Walk {
  readonly #bytes: Buffer;
  #parts = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Offset of the next key's quote in the top-level object, or -1 at its end. */
  nextKey(from: number): number {
    const bytes = this.#bytes;
    for (let at = from; at < bytes.length; at += 1) {
      const byte = bytes[at];
      if (byte === QUOTE) {
        this.#count();
        return at;
      }
      if (byte === CLOSE_BRACE) return -1;
    }
    return -1;
  }

  /** Offset behind the value that starts at `start`, without the spaces that follow it. */
  endOfValue(start: number): number {
    const bytes = this.#bytes;
    const first = bytes[start];
    if (first === QUOTE) return endOfString(bytes, start + 1) + 1;
    if (first === OPEN_BRACE || first === OPEN_BRACKET) return this.#endOfContainer(start);
    let at = start;
    while (at < bytes.length && !endsScalar(bytes[at] ?? 0)) at += 1;
    return at;
  }

  #endOfContainer(start: number): number {
    const bytes = this.#bytes;
    const { length } = bytes;
    let depth = 1; // The top-level object.
    for (let at = start; at < length; at += 1) {
      const byte = bytes[at];
      if (byte === QUOTE) at = endOfString(bytes, at + 1);
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        this.#count();
        depth += 1;
        if (depth > maximumJsonDepth) throw tooDeep();
      } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        depth -= 1;
        if (depth === 1) return at + 1;
      } else if (byte === COLON) this.#count();
    }
    return length;
  }

  #count(): void {
    this.#parts += 1;
    if (this.#parts > maximumParts)
      throw new AppError('invalid_request', `The body has more than ${maximumParts} members and lists.`);
  }
}

function endsScalar(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_BRACE || byte === CLOSE_BRACKET || byte <= 0x20;
}

/** Offset of the quote that closes the string whose content starts at `from`, or the body's length. */
function endOfString(bytes: Buffer, from: number): number {
  const { length } = bytes;
  let at = from;
  for (;;) {
    const limit = Math.min(length, at + walkedBytes);
    while (at < limit) {
      const byte = bytes[at];
      if (byte === QUOTE) return at;
      at += byte === BACKSLASH ? 2 : 1;
    }
    if (at >= length) return length;
    const quote = bytes.indexOf(QUOTE, at);
    if (quote === -1) return length;
    if (!isEscaped(bytes, at, quote)) return quote;
    at = quote + 1;
  }
}

/** Whether an odd number of backslashes stands before `quote`; `from` is known to be no escaped byte. */
function isEscaped(bytes: Buffer, from: number, quote: number): boolean {
  let at = quote;
  while (at > from && bytes[at - 1] === BACKSLASH) at -= 1;
  return (quote - at) % 2 === 1;
}

function skipSpace(bytes: Buffer, from: number): number {
  let at = from;
  while (at < bytes.length && (bytes[at] ?? 0) <= 0x20) at += 1;
  return at;
}

function skipColon(bytes: Buffer, from: number): number {
  const at = skipSpace(bytes, from);
  return bytes[at] === COLON ? at + 1 : at;
}

/** The wanted name that these bytes are after unescaping, or null. */
function wantedName(bytes: Buffer, start: number, end: number, wanted: NameSet): string | null {
  // An escape writes one character in up to six bytes (`\u006d`).
  if (end - start > wanted.longest * 6) return null;
  let raw = bytes.toString('latin1', start, end);
  if (raw.includes('\\')) raw = unescape(raw);
  if (wanted.names.has(raw)) return raw;
  const lower = raw.length <= wanted.longest ? raw.toLowerCase() : raw;
  if (lower !== raw && wanted.names.has(lower)) {
    throw new AppError('invalid_request', `The field "${lower}" must be written in lower case.`, {
      param: lower,
    });
  }
  return null;
}

function unescape(raw: string): string {
  try {
    const parsed: unknown = JSON.parse(`"${raw}"`);
    return typeof parsed === 'string' ? parsed : raw;
  } catch {
    return raw; // JSON.parse of the whole body will say what is wrong.
  }
}

function repeated(name: string): AppError {
  return new AppError('invalid_request', `The field "${name}" is given more than once.`, { param: name });
}

function tooDeep(): AppError {
  return new AppError(
    'json_too_deep',
    `The body nests objects or arrays deeper than ${maximumJsonDepth} levels.`,
  );
}
