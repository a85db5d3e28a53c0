import type { z } from 'zod';

/** Words for zod's names of types, with their article. */
const typeWords: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

const formatWords: Readonly<Record<string, string>> = {
  datetime: 'Send a time such as 2026-11-23T09:30:00Z',
  date: 'Send a day such as 2026-11-23',
  url: 'Send a URL',
  email: 'Send an e-mail address',
  uuid: 'Send a UUID',
};

/**
 * What to do about a fault of the input, as a sentence without its full stop; undefined leaves zod its own. For
 * `safeParse(value, { error })`: a message that a schema states itself comes before it.
 */
export function inputAdvice(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return typeAdvice(String(issue.expected), issue.input);
    case 'invalid_value':
      return `Send ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.map(String).join(', ')}`;
    case 'unrecognized_keys':
      return `There is no field ${issue.keys.map((key) => key.slice(0, 100)).join(', ')}; leave it out`;
    case 'too_small':
      return boundAdvice('at least', issue.minimum, issue.origin, issue.inclusive !== false);
    case 'too_big':
      return boundAdvice('at most', issue.maximum, issue.origin, issue.inclusive !== false);
    case 'invalid_format':
      return formatWords[issue.format];
    case 'invalid_union':
      return 'None of the forms that this may have fits; the example of the operation in GET /openapi.json shows one';
    default:
      return undefined;
  }
}

function typeAdvice(expected: string, input: unknown): string {
  const wanted = typeWords[expected] ?? expected;
  if (input === undefined) return `Send ${wanted}; it is missing`;
  const sent = Array.isArray(input) ? 'array' : input === null ? 'null' : typeof input;
  // A number that is no whole one, or beyond 2^53, is a number all the same.
  return expected === sent || (expected === 'int' && sent === 'number')
    ? `Send ${wanted}`
    : `Send ${wanted}, not ${typeWords[sent] ?? sent}`;
}

function boundAdvice(bound: string, limit: number | bigint, origin: string, isInclusive: boolean): string {
  const exactly = isInclusive ? bound : bound === 'at least' ? 'more than' : 'less than';
  const unit = origin === 'string' ? ' character' : origin === 'array' || origin === 'set' ? ' item' : '';
  return `Send ${exactly} ${String(limit)}${unit}${unit === '' || Number(limit) === 1 ? '' : 's'}`;
}
