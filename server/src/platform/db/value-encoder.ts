import { AppError } from '#kernel';
import type { EncodedParameter } from './session.ts';
import { largestDateMs } from './value-parsers.ts';

/**
 * A text parameter that is UTF-8 already, so that a large one is never a string: the parameter must be a text to the
 * statement (`${...}::text`). Not checked here; PostgreSQL refuses a NUL and what is no UTF-8 (SQLSTATE 22021).
 */
export class Utf8Text {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

function checkText(text: string): string {
  if (text.includes('\0') || !text.isWellFormed()) {
    throw new AppError(
      'invalid_text',
      'The text holds a NUL character or a lone surrogate, which cannot be stored.',
    );
  }
  return text;
}

function encodeElement(value: unknown): string {
  if (Array.isArray(value)) return encodeArray(value);
  if (value instanceof Utf8Text) throw new TypeError('an encoded text cannot be an element of an array');
  const text = encodeText(value);
  return text === null ? 'NULL' : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function encodeArray(values: readonly unknown[]): string {
  return `{${values.map(encodeElement).join(',')}}`;
}

/**
 * A parameter as PostgreSQL's text. Takes string, number, bigint, boolean, Date, Uint8Array, Utf8Text, null, undefined
 * (NULL), arrays of these (a PostgreSQL array), and plain objects (JSON text; an array meant as JSON must be stringified by the
 * caller). Refuses with `invalid_text` what PostgreSQL can't hold: NUL and lone surrogates, which the driver would
 * otherwise replace without a word.
 */
export function encodeParameter(value: unknown): EncodedParameter {
  return value instanceof Utf8Text ? value.bytes : encodeText(value);
}

/** The largest and the smallest Date stand for infinity (value-parsers.ts), whose years PostgreSQL would refuse. */
function encodeDate(value: Date): string {
  const ms = value.getTime();
  if (Math.abs(ms) === largestDateMs) return ms > 0 ? 'infinity' : '-infinity';
  return value.toISOString();
}

function encodeText(value: unknown): string | null {
  switch (typeof value) {
    case 'string':
      return checkText(value);
    case 'number':
    case 'bigint':
    case 'boolean':
      return String(value);
    case 'undefined':
      return null;
    case 'object':
      if (value === null) return null;
      if (Array.isArray(value)) return encodeArray(value);
      if (value instanceof Uint8Array)
        return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
      if (value instanceof Date) return encodeDate(value);
      return checkText(JSON.stringify(value));
    default:
      throw new TypeError(`a ${typeof value} cannot be a parameter`);
  }
}
