import { isUtf8 } from 'node:buffer';
import { AppError } from './error.ts';

/** Deeper bodies are refused: recursive code further on would overflow its stack. */
export const maximumJsonDepth = 128;

/**
 * Parses a request body. The three ways in which bytes fail to be a JSON value are three codes: `invalid_encoding`,
 * `invalid_json`, `json_too_deep`.
 */
export function parseJsonBody(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw new AppError('invalid_encoding', 'The body is not valid UTF-8.');
  const text = bytes.toString('utf8');
  if (exceedsDepth(bytes)) {
    throw new AppError(
      'json_too_deep',
      `The body nests objects or arrays deeper than ${maximumJsonDepth} levels.`,
    );
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError('invalid_json', describeSyntaxError(cause, bytes.length), { cause });
  }
}

/**
 * Whether the value could nest deeper than allowed. Brackets are counted only where the body holds enough of them at
 * all; strings are skipped quote to quote, so a long base64 string costs one native search.
 */
function exceedsDepth(bytes: Buffer): boolean {
  if (!mayBeDeep(bytes)) return false;
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === 0x22) {
      at = endOfString(bytes, at + 1);
    } else if (byte === 0x7b || byte === 0x5b) {
      depth++;
      if (depth > maximumJsonDepth) return true;
    } else if (byte === 0x7d || byte === 0x5d) {
      depth--;
    }
  }
  return false;
}

/** Native searches for the first `maximumJsonDepth + 1` opening brackets; most bodies have far fewer. */
function mayBeDeep(bytes: Buffer): boolean {
  let found = 0;
  for (const bracket of [0x7b, 0x5b]) {
    let at = bytes.indexOf(bracket);
    while (at !== -1) {
      found++;
      if (found > maximumJsonDepth) return true;
      at = bytes.indexOf(bracket, at + 1);
    }
  }
  return false;
}

/** Index of the closing quote of a string whose content starts at `from`, or the end of the bytes. */
function endOfString(bytes: Buffer, from: number): number {
  let at = from;
  for (;;) {
    const quote = bytes.indexOf(0x22, at);
    if (quote === -1) return bytes.length;
    let backslashes = 0;
    while (quote - backslashes > from && bytes[quote - backslashes - 1] === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return quote;
    at = quote + 1;
  }
}

function describeSyntaxError(cause: unknown, length: number): string {
  if (length === 0) return 'The body is empty; it must be one JSON value.';
  const message = cause instanceof Error ? cause.message : '';
  const position = /position (\d+)/.exec(message)?.[1];
  return position === undefined
    ? 'The body is not valid JSON.'
    : `The body is not valid JSON: fault at character ${position}.`;
}
