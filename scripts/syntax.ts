/** Reading of TypeScript sources for the checks of this repository: parse, walk, and turn offsets into lines. */
import { readFileSync } from 'node:fs';
import { type Node, parseSync, type Program } from 'oxc-parser';

export interface Source {
  path: string;
  text: string;
  program: Program;
}

/** Parses one file; throws with the position where it is not TypeScript. */
export function parseFile(path: string): Source {
  const text = readFileSync(path, 'utf8');
  const { program, errors } = parseSync(path, text);
  const fault = errors[0];
  if (fault) throw new Error(`${path}: ${fault.message}`);
  return { path, text, program };
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'start' in value;
}

/** The direct children of a node in the order of the source. */
export function childrenOf(node: Node): Node[] {
  return Object.values(node)
    .flatMap((value: unknown): unknown[] => (Array.isArray(value) ? value : [value]))
    .filter(isNode);
}

/** Calls `visit` for the node and all below it, outer before inner. */
export function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  for (const child of childrenOf(node)) walk(child, visit);
}

/** The line of an offset, from 1. */
export function lineOf(source: Source, offset: number): number {
  let line = 1;
  for (let at = source.text.indexOf('\n'); at !== -1 && at < offset; at = source.text.indexOf('\n', at + 1)) {
    line += 1;
  }
  return line;
}
