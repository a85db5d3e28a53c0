import { open } from 'node:fs/promises';
import { parse, YAMLError } from 'yaml';
import { z } from 'zod';
import { AppError } from '#kernel';

/** The file of the scripted provider: which models there are, and what they answer. See docs/examples/scripted.yaml. */
const count = z.number().int().min(0).max(10_000_000);
const milliseconds = z.number().min(0).max(3_600_000);
const afterChunks = z.strictObject({
  after_chunks: count.default(0).describe('Frames sent before it; 0 is before the head'),
});

const delay = z.discriminatedUnion('distribution', [
  z.strictObject({ distribution: z.literal('fixed'), ms: milliseconds }),
  z
    .strictObject({ distribution: z.literal('uniform'), min_ms: milliseconds, max_ms: milliseconds })
    .refine((value) => value.min_ms <= value.max_ms, 'min_ms must not be over max_ms'),
  z.strictObject({
    distribution: z.literal('lognormal'),
    median_ms: milliseconds,
    sigma: z.number().min(0).max(5),
  }),
]);

const tokens = z.union([
  z.literal('omit'),
  z.strictObject({
    input: count.optional(),
    output: count.optional(),
    cached_input: count.optional(),
    reasoning: count.optional(),
  }),
]);

const headers = z.record(z.string().min(1).max(100), z.string().max(1000)).default({});

/** A pattern in slashes, or text that has to be contained; both are looked for in the first 4 KiB of the message. */
const textPattern = z
  .string()
  .min(1)
  .max(500)
  .refine((text) => patternOf(text) !== null, 'is not a valid regular expression');

const rule = z
  .strictObject({
    name: z.string().min(1).max(100).optional(),
    when: z
      .strictObject({ model: z.string().min(1).max(200).optional(), text: textPattern.optional() })
      .default({}),
    times: count
      .min(1)
      .optional()
      .describe('Only the first so many calls that match; later ones go to the next rule'),
    reply: z.union([z.string().max(1_000_000), z.array(z.string().max(100_000)).max(10_000)]).optional(),
    tool_calls: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(64),
          arguments: z.union([z.string(), z.json()]).default({}),
        }),
      )
      .min(1)
      .max(100)
      .optional(),
    tokens: tokens.optional(),
    latency: z.strictObject({ first_byte: delay.optional(), between_chunks: delay.optional() }).default({}),
    error: z
      .strictObject({ status: z.number().int().min(400).max(599), body: z.json().default(''), headers })
      .optional(),
    throttle: z.strictObject({ retry_after: z.number().min(0).max(86_400).optional() }).optional(),
    unreachable: z.literal(true).optional(),
    empty: z.literal(true).optional(),
    stall: afterChunks.optional(),
    cut: afterChunks.optional(),
    no_end: z
      .literal(true)
      .optional()
      .describe('A stream that ends without a finish reason and without [DONE]'),
    raw: z
      .strictObject({
        content_type: z.string().max(200).optional(),
        chunks: z.array(z.string().max(1_000_000)).max(10_000),
      })
      .optional(),
  })
  .refine(
    (value) =>
      [value.error, value.throttle, value.unreachable, value.empty, value.raw].filter(
        (one) => one !== undefined,
      ).length <= 1,
    'takes one of error, throttle, unreachable, empty and raw',
  );

const scriptShape = z.strictObject({
  seed: z.union([z.number().int(), z.string().max(200)]).default(0),
  models: z
    .array(
      z.strictObject({
        id: z.string().regex(/^[\x21-\x7e]{1,200}$/, 'must be printable ASCII without spaces'),
        kind: z.enum(['chat', 'embedding']).default('chat'),
        dimensions: z.number().int().min(1).max(8192).default(64).describe('Of an embedding'),
      }),
    )
    .min(1)
    .max(1000)
    .refine(
      (models) => new Set(models.map((model) => model.id)).size === models.length,
      'names a model twice',
    ),
  rules: z.array(rule).max(10_000).default([]),
});

export type Script = z.output<typeof scriptShape>;
export type ScriptRule = Script['rules'][number];

const maximumFileBytes = 4 * 1024 * 1024;
const maximumMatchedLength = 4096;

/** Reads and checks a script. Rejects with `invalid_configuration` that names the file and the path in it. */
export async function loadScript(path: string): Promise<Script> {
  let text: string;
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > maximumFileBytes) throw new AppError('invalid_configuration', `${path}: is over 4 MiB.`);
    text = await file.readFile('utf8');
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('invalid_configuration', `${path}: cannot be read.`, { cause });
  }
  return parseScript(text, path);
}

/** Checks the text of a script. All its faults are in the one error, each with its path, such as `rules[2].stall`. */
export function parseScript(text: string, name: string): Script {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 100 });
  } catch (cause) {
    const what = cause instanceof YAMLError ? cause.message : 'is not valid YAML';
    throw new AppError('invalid_configuration', `${name}: ${what}`, { cause });
  }
  const result = scriptShape.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.map((issue) => `${pathText(issue.path)}: ${issue.message}`);
  throw new AppError('invalid_configuration', `${name}: ${faults.join('; ')}`, { details: { faults } });
}

function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const part of path)
    text += typeof part === 'number' ? `[${part}]` : `${text === '' ? '' : '.'}${String(part)}`;
  return text === '' ? 'the file' : text;
}

/** What `when.text` looks for; null where it is in slashes and is no regular expression. */
export function patternOf(text: string): ((message: string) => boolean) | null {
  const match = /^\/(.+)\/([imsu]*)$/s.exec(text);
  if (!match) return (message) => message.slice(0, maximumMatchedLength).includes(text);
  try {
    const pattern = new RegExp(match[1] ?? '', match[2]);
    return (message) => pattern.test(message.slice(0, maximumMatchedLength));
  } catch {
    return null;
  }
}
