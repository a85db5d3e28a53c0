/**
 * Who may import whom: `node scripts/boundaries.ts [root]` prints every breach and exits with 1 if there is one.
 * The rules and their reasons are in boundaries/rules.ts. Node and tsc refuse deep #names by themselves
 * (`"#x/*": null` in server/package.json), and oxlint finds cycles; this finds the rest.
 */
import { globSync } from 'node:fs';
import path from 'node:path';
import { importsOf } from './boundaries/imports.ts';
import { placeOf, readEntrances, resolveTarget } from './boundaries/places.ts';
import { type Edge, knownPlace, type Rule, rules } from './boundaries/rules.ts';

export interface Breach {
  /** Below the root, with `/`. */
  file: string;
  line: number;
  specifier: string;
  rule: Rule;
}

const sources = '{contracts,server,sdk,cli,scripts,test}/**/*.{ts,mts,mjs,js}';
const skippedFolders = new Set(['node_modules', 'fixtures', 'dist', '.stoa']);

/** The files that the rules hold for, below `root`, sorted. */
export function boundedFiles(root: string): string[] {
  return globSync(sources, { cwd: root, exclude: (name) => skippedFolders.has(path.basename(name)) })
    .map((file) => file.split(path.sep).join('/'))
    .sort();
}

/** Every breach below `root`, in the order of files and lines. Throws where a file cannot be parsed. */
export function findBreaches(root: string): Breach[] {
  const entrances = readEntrances(root);
  return boundedFiles(root).flatMap((file) => {
    const place = placeOf(file);
    if (place.area === 'unknown') return [{ file, line: 1, specifier: '', rule: knownPlace }];
    return importsOf(path.join(root, file)).flatMap(({ line, specifier = '', isTypeOnly, names }) => {
      const target = specifier === '' ? undefined : resolveTarget(specifier, file, entrances);
      const edge: Edge = { from: file, place, specifier, target, isTypeOnly, names };
      return rules
        .filter((rule) => rule.isBroken(edge))
        .map((rule): Breach => ({ file, line, specifier, rule }));
    });
  });
}

if (import.meta.main) {
  const root = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, '..'));
  const breaches = findBreaches(root);
  for (const { file, line, specifier, rule } of breaches) {
    console.log(`${file}:${line} imports "${specifier}"\n  ${rule.id}: ${rule.reason}`);
  }
  console.log(`${boundedFiles(root).length} files, ${rules.length} rules, ${breaches.length} breaches`);
  process.exitCode = breaches.length === 0 ? 0 : 1;
}
