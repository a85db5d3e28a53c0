/** Where a file stands in the house, and what an import specifier points at. */
import { existsSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import path from 'node:path';

/** A folder with one way in. `layer` counts only inside the server. */
export interface Place {
  /** `kernel`, `platform/db`, `services/gateway`, `app`, `testing`, `contracts`, `scripts`, ... */
  name: string;
  area: 'server' | 'contracts' | 'sdk' | 'cli' | 'scripts' | 'test' | 'unknown';
  layer: number | undefined;
}

/** The ways in that package.json files state. */
export interface Entrances {
  /** `#name` of the server -> path below the root. `#name/*` is null there and left out. */
  aliases: Map<string, string>;
  /** `@stoa/name` and `@stoa/name/part` -> path below the root. */
  exports: Map<string, string>;
}

export type Target =
  | { kind: 'file'; place: Place; path: string }
  | { kind: 'manifest' }
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
  return /\.test\.ts$|\.harness\.ts$|(^|\/|\.)(contract|testing)\.ts$|\/testing\/|^test\//.test(relativePath);
}

/** The entries of an object in a package.json that are a path, with the workspace's folder before it. */
function pathsIn(root: string, workspace: string, field: 'imports' | 'exports'): [string, string][] {
  const file = path.join(root, workspace, 'package.json');
  if (!existsSync(file)) return [];
  const manifest: unknown = JSON.parse(readFileSync(file, 'utf8'));
  if (typeof manifest !== 'object' || manifest === null) return [];
  const fields = new Map<string, unknown>(Object.entries(manifest));
  const entries = fields.get(field);
  if (typeof entries !== 'object' || entries === null) return [];
  return Object.entries(entries).flatMap(([name, target]: [string, unknown]) =>
    typeof target === 'string' ? [[name, path.posix.join(workspace, target)]] : [],
  );
}

/** Reads the ways into the workspaces below `root`. */
export function readEntrances(root: string): Entrances {
  const exported = ['contracts', 'sdk', 'cli', 'server'].flatMap((workspace) =>
    pathsIn(root, workspace, 'exports').map(([name, target]): [string, string] => [
      path.posix.join(`@stoa/${workspace}`, name),
      target,
    ]),
  );
  return { aliases: new Map(pathsIn(root, 'server', 'imports')), exports: new Map(exported) };
}

function entry(target: string): Target {
  return { kind: 'file', place: placeOf(target), path: target };
}

/** What a specifier in the file `from` points at. Paths are below the root, with `/`. */
export function resolveTarget(specifier: string, from: string, { aliases, exports }: Entrances): Target {
  if (specifier.startsWith('.')) {
    const target = path.posix.normalize(path.posix.join(path.posix.dirname(from), specifier));
    const isOwnManifest = target === `${from.split('/')[0] ?? ''}/package.json`;
    return isOwnManifest ? { kind: 'manifest' } : entry(target);
  }
  if (specifier.startsWith('#')) {
    const target = aliases.get(specifier);
    if (target !== undefined) return entry(target);
    return specifier.includes('/') ? { kind: 'deep', specifier } : { kind: 'unknown', specifier };
  }
  if (isBuiltin(specifier)) return { kind: 'builtin', name: specifier.replace(/^node:/, '') };
  if (specifier.startsWith('/') || specifier.includes(':')) return { kind: 'unknown', specifier };
  const parts = specifier.split('/');
  const name = specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '');
  if (!name.startsWith('@stoa/')) return { kind: 'package', name };
  const target = exports.get(specifier);
  if (target !== undefined) return entry(target);
  // A workspace without exports (the CLI) is a place all the same: that it is imported breaks a rule by itself.
  return parts.length > 2
    ? { kind: 'deep', specifier }
    : entry(`${name.slice('@stoa/'.length)}/src/index.ts`);
}
