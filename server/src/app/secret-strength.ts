/**
 * Whether a secret could have come from a generator, by its length and shape. No list of known secrets: a secret that was
 * random and leaked looks like any other, and one that people invent is found by what it lacks.
 */

/** 32 random bytes in base64 without its padding; `openssl rand -base64 32` prints one more. */
const shortestBase64 = 43;
const shortestHex = 64;

/** What is wrong with a text that should be 256 random bits in hex, base64 or base64url; null where it may be. */
export function secretWeakness(text: string): string | null {
  const isHex = /^(?:[0-9a-f]+|[0-9A-F]+)$/.test(text) && text.length % 2 === 0;
  const digits = text.replace(/=+$/, '');
  if (!isHex && !isBase64(text, digits)) return 'it is neither hex nor base64';
  if (digits.length < (isHex ? shortestHex : shortestBase64)) return 'it is shorter than 32 random bytes';
  const disorder = isHex ? disorderFault(digits, 16) : (mixtureFault(digits) ?? disorderFault(digits, 64));
  return disorder ?? decodedFault(Buffer.from(digits, isHex ? 'hex' : 'base64'));
}

const shortestTyped = 32;
const distinctOfTyped = 12;

/**
 * The lower bar, for what somebody tries out: long enough, and neither repeated nor a row, but words may do. Null where it
 * is kept.
 */
export function typedWeakness(text: string): string | null {
  if (text.length < shortestTyped) return 'it is shorter than 32 characters';
  if (new Set(text).size < distinctOfTyped) return 'it has too few different characters';
  return patternFault(text, 64);
}

/** Base64 or base64url of whole bytes: one of both alphabets, a length that bytes give, and padding that fills it up or none. */
function isBase64(text: string, digits: string): boolean {
  if (!/^(?:[A-Za-z0-9+/]+|[A-Za-z0-9_-]+)={0,2}$/.test(text) || digits.length % 4 === 1) return false;
  return text === digits || text.length % 4 === 0;
}

/** What is encoded may be worth no more than what was typed: a sentence in base64 is still a sentence. */
function decodedFault(bytes: Buffer): string | null {
  const weakness = keyWeakness(bytes);
  if (weakness !== null) return weakness;
  const text = bytes.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(bytes) && !/\p{Cc}/u.test(text);
  return isText ? 'it is text, not random bytes' : null;
}

/** Of 43 random characters none lacks small letters or capitals; one in 1,500 lacks digits, and then mixes both evenly. */
function mixtureFault(text: string): string | null {
  const capitals = text.match(/[A-Z]/g)?.length ?? 0;
  const small = text.match(/[a-z]/g)?.length ?? 0;
  const hasDigits = /[0-9]/.test(text);
  const share = capitals / Math.max(1, capitals + small);
  if (capitals > 0 && small > 0 && (hasDigits || (share > 0.25 && share < 0.75))) return null;
  return 'it does not mix small letters, capitals and digits';
}

const repeatedLength = 6;

/** What random characters of an alphabet almost never show: few or nearly all of them, repetition, rows like `abcdef`. */
function disorderFault(text: string, alphabetSize: number): string | null {
  const distinct = new Set(text).size;
  const expected = alphabetSize * (1 - (1 - 1 / alphabetSize) ** text.length);
  if (distinct < expected * 0.62) return 'it has too few different characters';
  if (text.length < alphabetSize && distinct > expected * 1.4) return 'its characters are never the same';
  return patternFault(text, alphabetSize);
}

function patternFault(text: string, alphabetSize: number): string | null {
  let inRow = 0;
  const seen = new Set<string>();
  for (let at = 1; at < text.length; at += 1) {
    if (Math.abs(text.charCodeAt(at) - text.charCodeAt(at - 1)) <= 1) inRow += 1;
    const piece = text.slice(at - 1, at - 1 + repeatedLength);
    if (alphabetSize > 16 && piece.length === repeatedLength && seen.has(piece)) return 'it repeats itself';
    seen.add(piece);
  }
  // Of 64 random digits of hex more than 35 stand in a row less than once in 10^10 times, more than 25 once in 10^5.
  return inRow > text.length * 0.55 ? 'its characters stand in a row' : null;
}

/**
 * What is wrong with bytes that should be random; null where they may be. Of 32 random bytes fewer than 16 are different,
 * all have the same step between them, or all are printable text in less than one of 10^13 cases.
 */
export function keyWeakness(bytes: Uint8Array): string | null {
  if (new Set(bytes).size < 16) return 'it has too few different bytes';
  const steps = new Set(bytes.subarray(1).map((byte, index) => byte - (bytes[index] ?? 0)));
  if (steps.size === 1) return 'its bytes stand in a row';
  return bytes.every((byte) => byte >= 0x20 && byte < 0x7f) ? 'it is text, not random bytes' : null;
}

/** Whether a server's password is one that people invent and others guess: short, or of one kind of characters only. */
export function isGuessablePassword(text: string): boolean {
  if (text.length < 10 || new Set(text).size < 6) return true;
  return text.length < 20 && /^(?:[0-9]+|[a-z]+|[A-Z]+)$/.test(text);
}
