import { isJsonObject, type JsonObject } from '../intake/fields.ts';
import type { CheckedAnswer } from './whole-answer.ts';

/**
 * The answer with its vectors in the encoding that the client asked for. Some providers ignore `encoding_format`; the
 * OpenAI SDK asks for base64 by itself and would read a list of numbers as an empty vector, in silence.
 * Where the encoding is right already the provider's own bytes come back.
 */
export function inWantedEncoding(answer: CheckedAnswer, wanted: 'float' | 'base64'): Buffer {
  const data: unknown = answer.json['data'];
  if (!Array.isArray(data)) return answer.body;
  const items: readonly unknown[] = data;
  if (items.every((item) => isJsonObject(item) && isEncodedAs(item['embedding'], wanted))) return answer.body;
  const converted = items.map((item) => (isJsonObject(item) ? convert(item, wanted) : item));
  return Buffer.from(JSON.stringify({ ...answer.json, data: converted }));
}

function isEncodedAs(embedding: unknown, wanted: 'float' | 'base64'): boolean {
  return wanted === 'base64' ? typeof embedding === 'string' : Array.isArray(embedding);
}

function convert(item: JsonObject, wanted: 'float' | 'base64'): JsonObject {
  const { embedding } = item;
  if (isEncodedAs(embedding, wanted)) return item;
  if (typeof embedding === 'string') return { ...item, embedding: numbersOf(embedding) };
  if (Array.isArray(embedding)) return { ...item, embedding: base64Of(embedding) };
  return item;
}

/** OpenAI's base64: 32-bit floats, least significant byte first. */
function base64Of(numbers: readonly unknown[]): string {
  const bytes = Buffer.allocUnsafe(numbers.length * 4);
  numbers.forEach((number, index) =>
    bytes.writeFloatLE(typeof number === 'number' ? number : Number.NaN, index * 4),
  );
  return bytes.toString('base64');
}

function numbersOf(base64: string): number[] {
  const bytes = Buffer.from(base64, 'base64');
  const numbers = Array.from<number>({ length: Math.floor(bytes.length / 4) });
  for (let index = 0; index < numbers.length; index += 1) numbers[index] = bytes.readFloatLE(index * 4);
  return numbers;
}
