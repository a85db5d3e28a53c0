import { AppError } from '#kernel';

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
  const text = encodeParameter(value);
  return text === null ? 'NULL' : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

function encodeArray(values: readonly unknown[]): string {
  return `{${values.map(encodeElement).join(',')}}`;
}

/**
 * A parameter as PostgreSQL's text. Takes string, number, bigint, boolean, Date, Uint8Array, null, undefined (NULL),
 * arrays of these (a PostgreSQL array), and plain objects (JSON text; an array meant as JSON must be stringified by the
 * caller). Refuses with `invalid_text` what PostgreSQL can't hold: NUL and lone surrogates, which the driver would
 * otherwise replace without a word.
 */
export function encodeParameter(value: unknown): string | null {
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
      if (value instanceof Date) return value.toISOString();
      return checkText(JSON.stringify(value));
    default:
      throw new TypeError(`a ${typeof value} cannot be a parameter`);
  }
}
