import { globSync } from 'node:fs';
import path from 'node:path';
import type { Node } from 'oxc-parser';
import { lineOf, parseFile, type Source, walk } from '../syntax.ts';

/**
 * The reference of all metrics, gathered from the sources: every object literal of the server that has a `name` that
 * begins like a metric's and a `help`. Reading the sources finds them all, however a module hands them to the registry.
 */
export const metricsReference = {
  path: 'docs/reference/metrics.md',
  produce: (): Promise<string> => Promise.resolve(page()),
};

const sourceDirectory = path.resolve(import.meta.dirname, '../../server/src');
const metricName = /^(?:stoa|process|nodejs)_[a-z0-9_]+$/;

interface Declaration {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly hasBuckets: boolean;
}

const introduction = `# Metrics

This page is generated from the sources. \`GET /metrics\` on the operator's listener answers in the text format of
Prometheus. A metric holds at most 1,000 series; beyond, all further ones share the one whose labels are \`other\`.
`;

function page(): string {
  const sections = new Map<string, Declaration[]>();
  const seen = new Map<string, string>();
  for (const file of globSync('**/*.ts', { cwd: sourceDirectory }).sort()) {
    if (/\.test\.ts$|^testing\//.test(file)) continue;
    for (const declaration of declarationsIn(parseFile(path.join(sourceDirectory, file)))) {
      const other = seen.get(declaration.name);
      if (other !== undefined) throw new Error(`${declaration.name} is declared in ${other} and in ${file}`);
      seen.set(declaration.name, file);
      const module = path.dirname(file);
      sections.set(module, [...(sections.get(module) ?? []), declaration]);
    }
  }
  const tables = [...sections].map(([module, declarations]) => {
    const rows = declarations.map(row).join('\n');
    return `## ${module}\n\n| name | kind | labels | what it tells |\n| --- | --- | --- | --- |\n${rows}\n`;
  });
  return [introduction, ...tables].join('\n');
}

function declarationsIn(source: Source): Declaration[] {
  const found: Declaration[] = [];
  walk(source.program, (node) => {
    if (node.type !== 'ObjectExpression') return;
    const properties = new Map<string, Node>();
    for (const property of node.properties) {
      if (property.type === 'Property' && property.key.type === 'Identifier') {
        properties.set(property.key.name, property.value);
      }
    }
    const name = textOf(properties.get('name'));
    if (name === null || !metricName.test(name) || !properties.has('help')) return;
    const help = textOf(properties.get('help'));
    const labels = textsOf(properties.get('labels'));
    if (help === null || labels === null) {
      throw new Error(
        `${source.path}:${lineOf(source, node.start)}: help and labels of a metric must be literals`,
      );
    }
    found.push({ name, help, labels, hasBuckets: properties.has('buckets') });
  });
  return found;
}

function textOf(node: Node | undefined): string | null {
  return node?.type === 'Literal' && typeof node.value === 'string' ? node.value : null;
}

/** The texts of an array literal, none where there is no node, null where it holds anything else. */
function textsOf(node: Node | undefined): string[] | null {
  if (node === undefined) return [];
  if (node.type !== 'ArrayExpression') return null;
  const texts = node.elements.map((element) => textOf(element ?? undefined));
  return texts.every((text) => text !== null) ? texts : null;
}

function row({ name, help, labels, hasBuckets }: Declaration): string {
  const kind = hasBuckets ? 'histogram' : name.endsWith('_total') ? 'counter' : 'gauge';
  const shown = labels.map((label) => `\`${label}\``).join(', ');
  return `| \`${name}\` | ${kind} | ${shown} | ${help} |`;
}
