import { readFileSync, statSync } from 'node:fs';
import { type Document, isMap, isNode, isSeq, LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { type AppError, nearestOf } from '#kernel';
import { configurationError } from './config.ts';
import type { SettingFault } from './config-rules.ts';

/**
 * `stoa.yaml`: providers and models as a file under version control. The shape of its sections belongs to their
 * modules and is handed in; here are the reading, its bounds, and reports that name line and column.
 */

const fileLimitBytes = 1024 * 1024;
/** Anchors are useful, bombs of aliases are not: how many nodes all aliases together may unfold to. */
const aliasLimit = 100;
const depthLimit = 64;

export interface ConfigFileOptions<Schema extends z.ZodObject> {
  readonly path: string;
  /** Where false and the file is absent, the answer is null. */
  readonly mustExist: boolean;
  /**
   * The sections; strict, so that a misspelt one is a fault. A refinement says what is wrong in `params.wrong` of its
   * issue, and what is expected in the message.
   */
  readonly schema: Schema;
}

/**
 * Reads and checks the file.
 * @returns the checked sections (`{}` is checked where the file is empty), or null where there is no file and none must be
 * @throws AppError `invalid_configuration` with every fault of the file, each with line and column
 */
export function loadConfigFile<Schema extends z.ZodObject>(
  options: ConfigFileOptions<Schema>,
): z.output<Schema> | null {
  const text = readText(options);
  return text === null ? null : parseConfigText(text, options.path, options.schema);
}

/** The same for text in hand; `path` is for the report. */
export function parseConfigText<Schema extends z.ZodObject>(
  text: string,
  path: string,
  schema: Schema,
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    schema: 'core',
    merge: false,
    stringKeys: true,
    prettyErrors: false,
  });
  const faults: SettingFault[] = document.errors.map((error) => ({
    name: place(path, lines, error.pos[0]),
    wrong: `it is no valid YAML (${error.code})`,
    expected: yamlRemedies[error.code] ?? 'valid YAML 1.2',
  }));
  if (faults.length > 0) throw configurationError(faults);
  const depth = depthOf(document.contents, 0);
  if (depth > depthLimit)
    throw fileError(path, `it is nested more than ${depthLimit} levels deep`, 'a flatter file');
  const checked = schema.safeParse(plainValue(document, path) ?? {});
  if (checked.success) return checked.data;
  throw configurationError(
    checked.error.issues.flatMap((issue) => issueFaults(issue, { path, document, lines, schema })),
  );
}

const yamlRemedies: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'each key once',
  TAB_AS_INDENT: 'spaces for indentation, never tabs',
  BAD_INDENT: 'the same indentation for entries of one level',
  MULTIPLE_DOCS: 'one document a file',
};

function readText(options: { readonly path: string; readonly mustExist: boolean }): string | null {
  const { path, mustExist } = options;
  try {
    if (statSync(path).size > fileLimitBytes) throw fileError(path, 'it is too large', 'at most 1 MiB');
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || 'publicMessage' in error) throw error;
    if (error.code === 'ENOENT' && !mustExist) return null;
    throw fileError(path, `it cannot be read (${String(error.code)})`, 'a readable file, or no STOA_CONFIG');
  }
}

function fileError(path: string, wrong: string, expected: string): AppError {
  return configurationError([{ name: path, wrong, expected }]);
}

function plainValue(document: Document, path: string): unknown {
  try {
    return document.toJS({ maxAliasCount: aliasLimit });
  } catch (error) {
    if (error instanceof ReferenceError) {
      throw fileError(
        path,
        'its aliases unfold to too much or to nothing',
        `at most ${aliasLimit} nodes by alias`,
      );
    }
    throw error;
  }
}

function depthOf(node: unknown, depth: number): number {
  if (depth > depthLimit) return depth;
  if (isMap(node)) return Math.max(depth, ...node.items.map((pair) => depthOf(pair.value, depth + 1)));
  if (isSeq(node)) return Math.max(depth, ...node.items.map((item) => depthOf(item, depth + 1)));
  return depth;
}

interface FileView {
  readonly path: string;
  readonly document: Document;
  readonly lines: LineCounter;
  readonly schema: z.ZodObject;
}

function issueFaults(issue: z.core.$ZodIssue, view: FileView): SettingFault[] {
  if (issue.code !== 'unrecognized_keys') {
    const offset = offsetOf(view.document, issue.path);
    const subject = issue.path.length === 0 ? 'the file' : pathText(issue.path);
    const stated: unknown = issue.code === 'custom' ? issue.params?.['wrong'] : undefined;
    return [
      {
        name: place(view.path, view.lines, offset),
        wrong: typeof stated === 'string' ? `${subject}: ${stated}` : `${subject} is not valid`,
        expected: lowered(issue.message),
      },
    ];
  }
  return issue.keys.map((key) => {
    const full = [...issue.path, key];
    const nearest = issue.path.length === 0 ? nearestOf(key, Object.keys(view.schema.shape)) : null;
    return {
      name: place(view.path, view.lines, offsetOf(view.document, full)),
      wrong: `${pathText(full)} is unknown`,
      expected: nearest === null ? 'a known key' : `\`${nearest}\`, perhaps`,
    };
  });
}

/** Where the value lies in the text; of a missing one, where the map that lacks it begins. */
function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function place(path: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
}

function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}

function lowered(message: string): string {
  const text = message.replace(/^Invalid input: expected /, '').replace(/\.$/, '');
  return text === '' ? 'another value' : text;
}
