import assert from 'node:assert/strict';
import { type ErrorCode, errorBody, errorTable, isErrorCode } from '@stoa/contracts';
import { z } from 'zod';

/** What a test holds of an answer, whichever client it came through. */
export interface AnyAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

const errorShape = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string().min(1),
  error: z.strictObject({
    message: z.string().min(1),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string(),
  }),
});

/** Signs of insides: stacks, source paths, SQL, schema names, hashes. */
const insides = [
  /\n\s+at .+:\d+/,
  /node_modules|server\/src|file:\/\//,
  /\b(?:select|update|delete|insert)\b.+\b(?:from|set|into)\b/i,
  /\b(?:tenant|platform|jobs)\.[a-z]+_/,
  /relation "|column "|violates|duplicate key value|syntax error at|invalid byte sequence/i,
  /\b[0-9a-f]{64}\b/,
];

/** The code of an error answer; fails unless the answer is in the one shape, complete and consistent with its status. */
export function errorCodeOf(answer: AnyAnswer, what = ''): ErrorCode {
  const shown = `${what} -> ${answer.status} ${answer.text.slice(0, 500)}`;
  const contentType = String(answer.headers['content-type']);
  assert.ok(contentType.startsWith('application/json'), `${contentType}: ${shown}`);
  const read = errorShape.safeParse(parseOrNull(answer.text));
  assert.ok(read.success, `not the error shape: ${shown}`);
  const { code, message, param } = read.data.error;
  assert.ok(isErrorCode(code), `an unknown code: ${shown}`);
  assert.deepEqual(read.data, errorBody(code, message, param), shown);
  assert.equal(answer.status, errorTable[code].status, shown);
  assert.match(String(answer.headers['x-request-id']), /^req_[0-7][0-9a-hjkmnp-tv-z]{25}$/, shown);
  for (const sign of insides) assert.doesNotMatch(answer.text, sign, shown);
  return code;
}

/** Fails unless the answer is this error. */
export function assertError(answer: AnyAnswer, code: ErrorCode, param?: string | null, what = ''): void {
  const found = errorCodeOf(answer, what);
  assert.equal(found, code, `${what} -> ${answer.status} ${answer.text.slice(0, 500)}`);
  if (param !== undefined) {
    assert.equal(errorShape.parse(parseOrNull(answer.text)).error.param, param, `${what}: ${answer.text}`);
  }
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
