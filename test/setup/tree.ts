/** A copy of this tree as a clone would be, and commands run in it as from a person's shell. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rootFolder } from '../../scripts/testing/test-files.ts';

export interface ShellNode {
  file: string;
  /** As `24.12.0`. */
  version: string;
}

/** Folders on PATH without those that npm puts there. */
function shellFolders(): string[] {
  const folders = (process.env['PATH'] ?? '').split(path.delimiter);
  return folders.filter((folder) => !/node_modules\/\.bin\/?$|node-gyp-bin\/?$/.test(folder));
}

/** The Node of the shell that runs the tests, as set-up would find it. */
export function shellNode(): ShellNode | undefined {
  for (const folder of shellFolders()) {
    const file = path.join(folder, 'node');
    if (!existsSync(file)) continue;
    const { stdout, status } = spawnSync(file, ['--version'], { encoding: 'utf8' });
    if (status === 0) return { file, version: stdout.trim().replace('v', '') };
  }
  return undefined;
}

/** True where a version is older than the project needs. */
export function isOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < 24 || (major === 24 && minor < 12);
}

/** The environment of a person's shell: no trace of npm, `first` before all else on PATH. */
export function shellEnvironment(first: string[], more: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|STOA_|NODE_|INIT_CWD)/i.test(name));
  return { ...Object.fromEntries(kept), PATH: [...first, ...shellFolders()].join(path.delimiter), ...more };
}

/** The program that a running process executes. */
export function programOf(pid: number): string {
  return realpathSync(`/proc/${pid}/exe`);
}

/**
 * A copy of every file that a commit of this tree would hold, in a folder whose path has a space, with node_modules
 * beside it as hard links where the file system allows it.
 */
export class Tree {
  readonly folder: string;

  constructor() {
    this.folder = path.join(mkdtempSync(path.join(tmpdir(), 'stoa-tree-')), 'a clone');
    mkdirSync(this.folder);
    const listed = spawnSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: rootFolder,
      encoding: 'utf8',
    });
    if (listed.status !== 0) throw new Error(`git ls-files failed: ${listed.stderr}`);
    for (const file of listed.stdout.split('\0')) {
      const source = path.join(rootFolder, file);
      if (file === '' || !existsSync(source)) continue;
      mkdirSync(path.dirname(path.join(this.folder, file)), { recursive: true });
      copyFileSync(source, path.join(this.folder, file));
    }
    const modules = path.join(rootFolder, 'node_modules');
    const linked = spawnSync('cp', ['-al', modules, this.folder]);
    if (linked.status === 0) return;
    rmSync(path.join(this.folder, 'node_modules'), { recursive: true, force: true });
    const copied = spawnSync('cp', ['-a', modules, this.folder], { encoding: 'utf8' });
    if (copied.status !== 0) throw new Error(`node_modules could not be copied: ${copied.stderr}`);
  }

  remove(): void {
    rmSync(path.dirname(this.folder), { recursive: true, force: true });
  }
}
