import { isStorable } from '@stoa/contracts';
import { AppError } from '#kernel';

/**
 * Reads of single fields of a body. Null counts as absent, as with OpenAI. A field of the wrong type or out of its range
 * is `invalid_request` with its name as `param`; text that no store takes back byte for byte is `invalid_text`.
 */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function invalid(param: string, message: string): AppError {
  return new AppError('invalid_request', message, { param });
}

export function optionalBoolean(json: JsonObject, name: string): boolean | null {
  const value = json[name] ?? null;
  if (value === null || typeof value === 'boolean') return value;
  throw invalid(name, `The field "${name}" must be true or false.`);
}

/** A whole number from `minimum` to `maximum`, both included. */
export function optionalInteger(
  json: JsonObject,
  name: string,
  minimum: number,
  maximum: number = Number.MAX_SAFE_INTEGER,
): number | null {
  const value = json[name] ?? null;
  if (value === null) return null;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= minimum && value <= maximum)
    return value;
  const range = maximum === Number.MAX_SAFE_INTEGER ? `at least ${minimum}` : `${minimum} to ${maximum}`;
  throw invalid(name, `The field "${name}" must be a whole number, ${range}.`);
}

/** Text that can be stored, of at most `maximum` UTF-16 units. */
export function optionalText(json: JsonObject, name: string, maximum: number): string | null {
  const value = json[name] ?? null;
  if (value === null) return null;
  if (typeof value !== 'string') throw invalid(name, `The field "${name}" must be text.`);
  if (value.length > maximum)
    throw invalid(name, `The field "${name}" must have at most ${maximum} characters.`);
  return storable(value, name);
}

export function optionalObject(json: JsonObject, name: string): JsonObject | null {
  const value = json[name] ?? null;
  if (value === null) return null;
  if (isJsonObject(value)) return value;
  throw invalid(name, `The field "${name}" must be an object.`);
}

/** The target's id or `auto`: 1 to 200 characters. */
export function requiredModel(json: JsonObject): string {
  const value = json['model'];
  if (typeof value !== 'string' || value === '') {
    throw invalid('model', 'The field "model" must name a model, or be "auto".');
  }
  if (value.length > 200) throw invalid('model', 'The field "model" must have at most 200 characters.');
  return storable(value, 'model');
}

const maximumTags = 16;
const noTags: Readonly<Record<string, string>> = {};

/** `metadata` as tags: at most 16, keys of 1 to 64 characters, values of at most 512. */
export function readTags(json: JsonObject): Readonly<Record<string, string>> {
  const metadata = optionalObject(json, 'metadata');
  if (metadata === null) return noTags;
  const entries = Object.entries(metadata);
  if (entries.length > maximumTags) {
    throw invalid('metadata', `The field "metadata" must have at most ${maximumTags} entries.`);
  }
  return Object.fromEntries(entries.map(([key, value]) => [readTagKey(key), readTagValue(value)]));
}

function readTagKey(key: string): string {
  if (key.length < 1 || key.length > 64) {
    throw invalid('metadata', 'Each key of "metadata" must have 1 to 64 characters.');
  }
  return storable(key, 'metadata');
}

function readTagValue(value: unknown): string {
  if (typeof value !== 'string' || value.length > 512) {
    throw invalid('metadata', 'Each value of "metadata" must be text of at most 512 characters.');
  }
  return storable(value, 'metadata');
}

function storable(text: string, name: string): string {
  if (isStorable(text)) return text;
  throw new AppError('invalid_text', `The field "${name}" holds NUL characters or lone surrogates.`, {
    param: name,
  });
}
