/** What an operator looks up at night is there: each name that `degraded` can hold, and each page that is linked. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
/** How every part of a process says what it is called and whether it works (`HealthPart` of the kernel). */
const healthPart = /name:\s*'([a-z_]+)',\s*isHealthy\b/g;

function namesInCode(): Set<string> {
  const sources = globSync('server/src/**/*.ts', { cwd: root }).filter((file) => !file.endsWith('.test.ts'));
  return new Set(
    sources.flatMap((file) => [...read(file).matchAll(healthPart)].map(([, name = '']) => name)),
  );
}

function namesOnPage(): string[] {
  const section = /^## Names in `degraded`\n([^]*?)^## /m.exec(read('docs/operating.md'))?.[1] ?? '';
  return [...section.matchAll(/^\| `([a-z_]+)` \|/gm)].map(([, name = '']) => name);
}

test('docs/operating.md says of each name in `degraded` what to do, and of no other', () => {
  const names = namesInCode();
  assert.ok(names.size >= 11, `only ${[...names].join(', ')} were found`);
  assert.deepEqual(namesOnPage().toSorted(), [...names].toSorted());
});

test('every link between the pages leads to a file, and to a heading where it names one', () => {
  const pages = [
    'README.md',
    'ARCHITECTURE.md',
    'CONTRIBUTING.md',
    ...globSync('docs/**/*.md', { cwd: root }),
  ];
  const broken = pages.flatMap((page) =>
    [...read(page).matchAll(/\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)/g)].flatMap(
      ([link, file = '', heading]) => {
        const target = file === '' ? page : path.join(path.dirname(page), file);
        if (!existsSync(path.join(root, target))) return [`${page}: ${link}`];
        return heading === undefined || headingsOf(target).has(heading) ? [] : [`${page}: ${link}`];
      },
    ),
  );
  assert.deepEqual(broken, []);
});

/** As they are linked: in lower case, hyphens for spaces, without punctuation. */
function headingsOf(page: string): Set<string> {
  return new Set(
    [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, text = '']) =>
      text
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}
