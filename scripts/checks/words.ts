/** Words that must not be in the tree: postponed work, switched-off checks, traces of the place it was written at. */
import { globSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

export interface ForbiddenWord {
  /** Matched line by line. Written so that this file does not match itself. */
  pattern: RegExp;
  reason: string;
}

export const forbiddenWords: readonly ForbiddenWord[] = [
  { pattern: /\b(?:TO[D]O|FIX[M]E)\b/, reason: 'open an issue and name it, or do it' },
  {
    pattern: /(?:oxlint|eslint)-disa[b]le(?!")|biome-igno[r]e|@ts-(?:igno[r]e|expect-erro[r]|nochec[k])/,
    reason: 'checks are not switched off in a source; change the rule, with its reason, or the code',
  },
  {
    pattern: /\b(?:test|it|describe|suite)\.onl[y]\(/,
    reason: 'one test alone was for a moment at the desk',
  },
  {
    pattern: /https?:\/\/[^\s"'`/]*(?:registry|npmjs|npmmirror|artifactory|verdaccio|nexus)[^\s"'`/]*/i,
    reason: 'where packages come from is told by the settings of whoever installs',
  },
  {
    pattern:
      /(?:^|[\s"'`(=:,<])(?:\/(?:root|work|workspaces?)\/|\/(?:home|Users)\/(?!(?:node|operator|stoa|user|you)\b)|[A-Z]:\\Users\\)/,
    reason: 'an absolute path of the place where this was written; examples live in /srv or /home/operator',
  },
];

export interface WordBreach {
  file: string;
  line: number;
  text: string;
  reason: string;
}

const skippedFolders = new Set([
  'node_modules',
  '.git',
  'fixtures',
  '.stoa',
  'dist',
  'coverage',
  '.set-up-lock',
]);
const binary = /\.(?:png|jpe?g|gif|ico|woff2?|wasm|gz|zip|pdf|node)$/;
const sizeLimitBytes = 4 * 1024 * 1024;

function filesBelow(root: string): string[] {
  return globSync('{*,.*,**/*,.*/**/*}', {
    cwd: root,
    exclude: (name) => skippedFolders.has(path.basename(name)),
  })
    .filter((file) => !binary.test(file))
    .filter((file) => {
      const found = statSync(path.join(root, file));
      return found.isFile() && found.size <= sizeLimitBytes;
    })
    .sort();
}

/** Every forbidden word below `root`, in all text files, dotfiles and the lock among them. */
export function findForbiddenWords(root: string): { checked: number; breaches: WordBreach[] } {
  const files = [...new Set(filesBelow(root))];
  const breaches = files.flatMap((file) =>
    readFileSync(path.join(root, file), 'utf8')
      .split('\n')
      .flatMap((text, index) =>
        forbiddenWords
          .filter(({ pattern }) => pattern.test(text))
          .map(({ reason }) => ({ file, line: index + 1, text: text.trim().slice(0, 160), reason })),
      ),
  );
  return { checked: files.length, breaches };
}
