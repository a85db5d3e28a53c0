/** Where a file stands in the house, and what an import specifier points at. */
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';

/** A folder with one way in. `layer` counts only inside the server. */
export interface Place {
  /** `kernel`, `platform/db`, `services/gateway`, `app`, `testing`, `contracts`, `scripts`, ... */
  name: string;
  area: 'server' | 'contracts' | 'sdk' | 'cli' | 'scripts' | 'test' | 'unknown';
  layer: number | undefined;
}

export type Target =
  | { kind: 'file'; place: Place; path: string; isEntry: boolean }
  | { kind: 'deep'; specifier: string }
  | { kind: 'package'; name: string }
  | { kind: 'builtin'; name: string }
  | { kind: 'unknown'; specifier: string };

const layers = new Map([
  ['platform', 1],
  ['control', 2],
  ['services', 3],
]);

function serverPlace([first = '', second]: string[]): Place {
  const layer = layers.get(first);
  if (layer !== undefined && second !== undefined) {
    return { name: `${first}/${second}`, area: 'server', layer };
  }
  if (first === 'kernel') return { name: 'kernel', area: 'server', layer: 0 };
  if (first === 'app' || first === 'main.ts') return { name: 'app', area: 'server', layer: 4 };
  if (first === 'testing') return { name: 'testing', area: 'server', layer: undefined };
  return { name: first, area: 'unknown', layer: undefined };
}

/** The place of a file, told by its path below the root (with `/`). */
export function placeOf(relativePath: string): Place {
  const parts = relativePath.split('/');
  const [area = ''] = parts;
  if (area === 'server') {
    return parts[1] === 'src'
      ? serverPlace(parts.slice(2))
      : { name: 'server', area: 'unknown', layer: undefined };
  }
  if (area === 'contracts' || area === 'sdk' || area === 'cli' || area === 'scripts' || area === 'test') {
    return { name: area, area, layer: undefined };
  }
  return { name: area, area: 'unknown', layer: undefined };
}

/** Files that only tests load: tests, exported contract suites, and what supports them. */
export function isTestCode(relativePath: string): boolean {
  return /\.test\.ts$|(^|\/|\.)contract\.ts$|^server\/src\/testing\/|^test\//.test(relativePath);
}

/** `#name` -> path below the root, from the server's package.json; `#name/*` is null there and left out. */
export function readAliases(root: string): Map<string, string> {
  const manifest: unknown = JSON.parse(readFileSync(path.join(root, 'server/package.json'), 'utf8'));
  const aliases = new Map<string, string>();
  if (typeof manifest !== 'object' || manifest === null || !('imports' in manifest)) return aliases;
  const { imports } = manifest;
  if (typeof imports !== 'object' || imports === null) return aliases;
  for (const [name, target] of Object.entries(imports)) {
    if (typeof target === 'string') aliases.set(name, path.posix.join('server', target));
  }
  return aliases;
}

/** What a specifier in the file `from` points at. Paths are below the root, with `/`. */
export function resolveTarget(specifier: string, from: string, aliases: Map<string, string>): Target {
  if (specifier.startsWith('.')) {
    const target = path.posix.normalize(path.posix.join(path.posix.dirname(from), specifier));
    const isEntry = path.posix.basename(target) === 'index.ts';
    return { kind: 'file', place: placeOf(target), path: target, isEntry };
  }
  if (specifier.startsWith('#')) {
    const target = aliases.get(specifier);
    if (target !== undefined) return { kind: 'file', place: placeOf(target), path: target, isEntry: true };
    return specifier.includes('/') ? { kind: 'deep', specifier } : { kind: 'unknown', specifier };
  }
  if (isBuiltin(specifier)) return { kind: 'builtin', name: specifier.replace(/^node:/, '') };
  if (specifier.startsWith('/') || specifier.includes(':')) return { kind: 'unknown', specifier };
  const parts = specifier.split('/');
  const name = specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '');
  const workspace = /^@stoa\/(.+)$/.exec(name)?.[1];
  if (workspace === undefined) return { kind: 'package', name };
  if (parts.length > 2) return { kind: 'deep', specifier };
  const entry = `${workspace}/src/index.ts`;
  return { kind: 'file', place: placeOf(entry), path: entry, isEntry: true };
}
