/**
 * A project of a few files around the real scripts/set-up.mjs, with an npm and Nodes that are scripts: what set-up
 * decides shows in a moment, without a registry, and every npm call is on record.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rootFolder } from '../../scripts/testing/test-files.ts';

const bundledPackage = `node-${process.platform}-${process.arch}`;

/** Installs what the lock lists, as npm does: all gone first, its own record last. Obeys the files fail and hold. */
const fakeNpm = `
const fs = require('node:fs');
const log = (line) => fs.appendFileSync('npm.log', line + '\\n');
log('begin ' + process.argv.slice(2).join(' '));
fs.rmSync('node_modules', { recursive: true, force: true });
fs.mkdirSync('node_modules/.bin', { recursive: true });
while (fs.existsSync('hold')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
if (fs.existsSync('fail')) { console.error('no registry here'); process.exit(7); }
const { packages } = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'));
const record = {};
for (const [name, entry] of Object.entries(packages)) {
  if (!name.startsWith('node_modules/') || fs.existsSync('omit-optional') && entry.optional) continue;
  fs.mkdirSync(name + '/bin', { recursive: true });
  fs.writeFileSync(name + '/package.json', JSON.stringify(entry));
  if (name.includes('/node-')) {
    fs.copyFileSync('bundled-node', name + '/bin/node');
    fs.symlinkSync('../' + name.slice(13) + '/bin/node', 'node_modules/.bin/node');
  }
  record[name] = entry;
}
fs.writeFileSync('node_modules/.package-lock.json', JSON.stringify({ packages: record }));
log('end');
`;

function writeProgram(file: string, content: string): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, 0o755);
}

/** A `node` that says it is of this version, and otherwise is the one that runs the tests. */
function fakeNode(version: string): string {
  return `#!/bin/sh\n[ "$1" = --version ] && echo ${version} && exit 0\nexec "${process.execPath}" "$@"\n`;
}

export interface Outcome {
  code: number | null;
  stderr: string;
  durationMs: number;
}

export class SmallProject {
  readonly folder: string;

  /** `hasBundledNode` false: as on a platform for which there is no package with a Node. */
  constructor({ hasBundledNode = true }: { hasBundledNode?: boolean } = {}) {
    this.folder = path.join(mkdtempSync(path.join(tmpdir(), 'stoa-set-up-')), 'a project');
    mkdirSync(path.join(this.folder, 'scripts'), { recursive: true });
    cpSync(path.join(rootFolder, 'scripts/set-up.mjs'), this.path('scripts/set-up.mjs'));
    writeProgram(this.path('npm-cli.js'), fakeNpm);
    writeProgram(this.path('bundled-node'), fakeNode('v24.21.0'));
    writeProgram(this.path('old/node'), fakeNode('v20.20.2'));
    writeProgram(this.path('new/node'), fakeNode('v26.1.0'));
    const bundled = { [bundledPackage]: '24.21.0' };
    this.writeJson('package.json', {
      name: 'small',
      version: '1.0.0',
      engines: { node: '>=24.12.0' },
      workspaces: ['part'],
      optionalDependencies: hasBundledNode ? bundled : {},
    });
    this.writePart('1.0.0');
    this.writeLock('1.0.0', hasBundledNode);
  }

  path(...parts: string[]): string {
    return path.join(this.folder, ...parts);
  }

  writeJson(file: string, content: unknown): void {
    mkdirSync(path.dirname(this.path(file)), { recursive: true });
    writeFileSync(this.path(file), JSON.stringify(content));
  }

  writePart(version: string, more: Record<string, unknown> = {}): void {
    this.writeJson('part/package.json', {
      name: 'part',
      version: '1.0.0',
      dependencies: { one: version },
      ...more,
    });
  }

  writeLock(version: string, hasBundledNode = true): void {
    const bundled = {
      [`node_modules/${bundledPackage}`]: { version: '24.21.0', integrity: 'x', optional: true },
    };
    this.writeJson('package-lock.json', {
      packages: {
        '': {},
        'node_modules/one': { version, integrity: version },
        ...(hasBundledNode ? bundled : {}),
      },
    });
  }

  /** Makes a marker file that the fake npm obeys. */
  say(name: 'fail' | 'hold' | 'omit-optional'): void {
    writeFileSync(this.path(name), '');
  }

  unsay(name: 'fail' | 'hold' | 'omit-optional'): void {
    rmSync(this.path(name), { force: true });
  }

  /** How often npm began to install. */
  get installs(): number {
    return this.#log().filter((line) => line.startsWith('begin ')).length;
  }

  get finishedInstalls(): number {
    return this.#log().filter((line) => line === 'end').length;
  }

  #log(): string[] {
    const file = this.path('npm.log');
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
  }

  /** Starts set-up as npm would: on a shell whose own Node is old or new, node_modules/.bin first on PATH. */
  start(shell: 'old' | 'new'): { child: ChildProcess; outcome: Promise<Outcome> } {
    const began = performance.now();
    const folders = [this.path('node_modules/.bin'), this.path(shell), '/usr/bin', '/bin'];
    const child = spawn(process.execPath, [this.path('scripts/set-up.mjs')], {
      cwd: tmpdir(),
      env: { PATH: folders.join(':'), npm_execpath: this.path('npm-cli.js') },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    const outcome = new Promise<Outcome>((resolve) => {
      child.once('close', (code) => resolve({ code, stderr, durationMs: performance.now() - began }));
    });
    return { child, outcome };
  }

  run(shell: 'old' | 'new'): Promise<Outcome> {
    return this.start(shell).outcome;
  }

  remove(): void {
    rmSync(path.dirname(this.folder), { recursive: true, force: true });
  }
}
