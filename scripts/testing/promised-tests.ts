/**
 * Which tests a file promises, read from its source without running it.
 *
 * A test can vanish without a trace: a process that ends early, an import that never settles, a loop over a table
 * that came out empty. node counts only what it saw. So every call of `test` or `it` that must be reached when
 * the file is loaded (at the top, in a loop, in the body of a suite) is a promise to report at least one test at
 * its line. Calls behind a condition or inside a function of the file's own promise nothing.
 */
import type { Node } from 'oxc-parser';
import { childrenOf, lineOf, parseFile, type Source } from '../syntax.ts';

export interface PromisedTest {
  file: string;
  line: number;
}

interface TestNames {
  tests: Set<string>;
  suites: Set<string>;
}

const conditional = new Set([
  'IfStatement',
  'ConditionalExpression',
  'LogicalExpression',
  'SwitchStatement',
  'TryStatement',
]);
const functions = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
  'ClassBody',
]);

function importedNames({ program }: Source): TestNames {
  const names: TestNames = { tests: new Set(), suites: new Set() };
  for (const statement of program.body) {
    if (statement.type !== 'ImportDeclaration' || statement.source.value !== 'node:test') continue;
    for (const specifier of statement.specifiers) {
      const named = specifier.type === 'ImportSpecifier' ? specifier.imported : undefined;
      const imported = named?.type === 'Identifier' ? named.name : 'test';
      if (imported === 'test' || imported === 'it') names.tests.add(specifier.local.name);
      if (imported === 'describe' || imported === 'suite') names.suites.add(specifier.local.name);
    }
  }
  return names;
}

/** `describe` of `describe(...)`, and of `describe.skip(...)` with `skip` as the variant. */
function calleeOf(node: Node): { name: string; variant?: string; at: number } | undefined {
  if (node.type !== 'CallExpression') return undefined;
  const { callee } = node;
  if (callee.type === 'Identifier') return { name: callee.name, at: callee.start };
  if (callee.type !== 'MemberExpression' || callee.object.type !== 'Identifier') return undefined;
  if (callee.property.type !== 'Identifier') return undefined;
  return { name: callee.object.name, variant: callee.property.name, at: callee.property.start };
}

function hasSkipOption(node: Node): boolean {
  if (node.type !== 'CallExpression') return false;
  return node.arguments.some(
    (argument) =>
      argument.type === 'ObjectExpression' &&
      argument.properties.some(
        ({ type, ...property }) =>
          type === 'Property' && 'key' in property && 'name' in property.key && property.key.name === 'skip',
      ),
  );
}

function collect(node: Node, names: TestNames, found: (offset: number) => void): void {
  if (conditional.has(node.type) || functions.has(node.type)) return;
  const callee = calleeOf(node);
  if (callee && names.tests.has(callee.name)) {
    if (callee.variant === undefined || callee.variant === 'skip') found(callee.at);
    return;
  }
  if (callee && names.suites.has(callee.name) && node.type === 'CallExpression') {
    if (callee.variant === undefined && !hasSkipOption(node)) {
      const body = node.arguments.at(-1);
      if (body && 'body' in body && body.body) collectBody(body.body, names, found);
    }
    return;
  }
  for (const child of childrenOf(node)) collect(child, names, found);
}

function collectBody(body: Node | Node[], names: TestNames, found: (offset: number) => void): void {
  for (const node of Array.isArray(body) ? body : [body]) collect(node, names, found);
}

/** The tests that must be reported when the file is loaded. Empty for a file that only calls exported suites. */
export function promisedTests(path: string): PromisedTest[] {
  const source = parseFile(path);
  const promises: PromisedTest[] = [];
  collect(source.program, importedNames(source), (offset) => {
    promises.push({ file: path, line: lineOf(source, offset) });
  });
  return promises;
}
