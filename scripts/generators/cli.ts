import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Generator } from './generator.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** The reference of the `stoa` command, as the command itself tells it. */
export const cliReference: Generator = {
  path: 'docs/reference/cli.md',
  async produce() {
    const { stdout } = await promisify(execFile)(process.execPath, [
      path.join(root, 'cli/src/main.ts'),
      'reference',
    ]);
    return stdout;
  },
};
