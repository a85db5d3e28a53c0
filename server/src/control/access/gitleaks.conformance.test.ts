/**
 * Our keys beside the rules that gitleaks ships: no other vendor's rule claims a key of ours, and our rule claims our keys
 * and nothing that another rule is made for.
 *
 * The rules are written for Go's RE2. What JavaScript writes otherwise is translated: inline flags in the middle (`(?i)`
 * holds to the end of its group), named groups, `\A`, `\z`, classes such as `[[:alnum:]]`. A rule that cannot be translated
 * is counted and shown; today there is none.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { keyPrefixes, makeKey } from './key-format.ts';

interface Rule {
  readonly id: string;
  /** As written; null for rules of file names alone. */
  readonly source: string | null;
  readonly keywords: readonly string[];
  readonly entropy: number;
  /** The group that is the secret; 0 where gitleaks takes the first that is not empty. */
  readonly secretGroup: number;
}

const shipped = rulesIn(
  readFileSync(`${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security/gitleaks.toml`, 'utf8'),
);
const [ours, ...others] = rulesIn(
  readFileSync(path.join(import.meta.dirname, '../../../../docs/reference/gitleaks.toml'), 'utf8'),
);
assert.ok(ours && others.length === 0);

/** The rules of a file in gitleaks' own layout: one `name = value` a line, lists over several, texts in ''' or ". */
function rulesIn(toml: string): Rule[] {
  return toml
    .split(/^\[\[rules\]\]$/m)
    .slice(1)
    .map((section) => {
      const [own = ''] = section.split(/^\[\[/m);
      const field = (pattern: RegExp): string | null => pattern.exec(own)?.[1] ?? null;
      const id = field(/^id = "([^"]+)"$/m);
      assert.ok(id !== null, section);
      const keywords = field(/^keywords = \[([^\]]*)\]/m) ?? '';
      return {
        id,
        source: field(/^regex = '''([^]*?)'''$/m),
        keywords: [...keywords.matchAll(/"([^"]*)"/g)].map(([, word = '']) => word.toLowerCase()),
        entropy: Number(field(/^entropy = ([\d.]+)$/m) ?? 0),
        secretGroup: Number(field(/^secretGroup = (\d+)$/m) ?? 0),
      };
    });
}

const classes: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  digit: '0-9',
  upper: 'A-Z',
  lower: 'a-z',
  word: '\\w',
  space: '\\s',
  xdigit: '0-9A-Fa-f',
};

/** An RE2 expression as JavaScript writes it. */
function translated(source: string): string {
  let text = '';
  /** For each open group, the flags that were set in it: they hold to its end, over its alternatives too. */
  const groups: string[][] = [[]];
  const setHere = (): string[] => groups.at(-1) ?? [];
  for (let index = 0; index < source.length; ) {
    const rest = source.slice(index);
    const [flags, letters = ''] = /^\(\?([a-z-]+)\)/.exec(rest) ?? [];
    let taken = 1;
    if (flags !== undefined) {
      setHere().push(`(?${letters}:`);
      text += `(?${letters}:`;
      taken = flags.length;
    } else if (rest.startsWith('\\')) {
      const both = rest.slice(0, 2);
      text += both === '\\z' ? '(?![^])' : both === '\\A' ? '(?<![^])' : both;
      taken = 2;
    } else if (rest.startsWith('[')) {
      taken = endOfClass(rest);
      text += rest.slice(0, taken).replace(/\[:(\w+):\]/g, (_all, name: string) => classes[name] ?? '[:');
    } else if (rest.startsWith('(')) {
      groups.push([]);
      text += rest.startsWith('(?P<') ? '(?<' : '(';
      taken = rest.startsWith('(?P<') ? 4 : 1;
    } else if (rest.startsWith(')')) {
      text += ')'.repeat((groups.pop() ?? []).length + 1);
    } else if (rest.startsWith('|')) {
      text += `${')'.repeat(setHere().length)}|${setHere().join('')}`;
    } else {
      text += rest.charAt(0);
    }
    index += taken;
  }
  return text + ')'.repeat(setHere().length);
}

/** Where the class that the text begins with ends: behind its `]`. */
function endOfClass(text: string): number {
  for (let index = text.startsWith('[^') ? 2 : 1, first = index; index < text.length; index++) {
    if (text.charAt(index) === '\\') index += 1;
    else if (text.startsWith('[:', index)) index = text.indexOf(':]', index) + 1;
    else if (text.charAt(index) === ']' && index > first) return index + 1;
  }
  throw new Error(`a class without an end: ${text}`);
}

interface Scanner {
  readonly rule: Rule;
  /** The secrets that the rule finds, as gitleaks goes about it: keyword, expression, entropy. */
  find(text: string): string[];
}

const untranslated: string[] = [];

function scannerOf(rule: Rule): Scanner | null {
  if (rule.source === null) return null;
  let expression: RegExp;
  try {
    expression = new RegExp(translated(rule.source), 'g');
  } catch {
    untranslated.push(rule.id);
    return null;
  }
  return {
    rule,
    find(text) {
      const lower = text.toLowerCase();
      if (rule.keywords.length > 0 && !rule.keywords.some((word) => lower.includes(word))) return [];
      return [...text.matchAll(expression)]
        .map((match) => {
          if (rule.secretGroup > 0) return match[rule.secretGroup] ?? '';
          return match.slice(1).find((group) => group !== undefined && group !== '') ?? match[0];
        })
        .filter((secret) => entropyOf(secret) > rule.entropy);
    },
  };
}

/** Shannon's, in bits a character. */
function entropyOf(text: string): number {
  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  let entropy = 0;
  for (const count of counts.values()) entropy -= (count / text.length) * Math.log2(count / text.length);
  return entropy;
}

const scanners = shipped.map(scannerOf).filter((scanner) => scanner !== null);
const ourScanner = scannerOf(ours);
assert.ok(ourScanner);

/** Where keys are found in the wild. */
const places: readonly ((key: string) => string)[] = [
  (key) => key,
  (key) => `STOA_KEY=${key}\n`,
  (key) => `export STOA_OPERATOR_KEY='${key}'`,
  (key) => `{ "apiKey": "${key}", "model": "auto" }`,
  (key) => `Authorization: Bearer ${key}`,
  (key) => `new OpenAI({ baseURL: 'http://localhost:8080/v1', apiKey: "${key}" })`,
  (key) => `OPENAI_API_KEY=${key} OPENAI_BASE_URL=http://localhost:8080/v1 node app.js`,
  (key) => `https://example.com/?key=${key}&x=1`,
  (key) => `curl -H "Authorization: Bearer ${key}" http://localhost:8080/v1/models`,
];

/** These claim whatever looks like a secret and name no vendor. */
const generic = new Set(['generic-api-key', 'curl-auth-header']);

test('every rule that gitleaks ships is understood, but for those of file names', () => {
  const withoutExpression = shipped.filter(({ source }) => source === null).map(({ id }) => id);
  assert.ok(shipped.length >= 200, `${shipped.length} rules`);
  assert.deepEqual(withoutExpression, ['pkcs12-file']);
  assert.deepEqual(untranslated, []);
  // An expression that lost its meaning would match nothing, and prove nothing.
  const finds = (id: string, text: string): boolean =>
    scanners.some(({ rule, find }) => rule.id === id && find(text).length > 0);
  const random = '4eC39HqLyjWDarjtT1zdp7dc';
  assert.ok(finds('stripe-access-token', `key = "${['sk', 'live', random].join('_')}"`));
  assert.ok(finds('github-pat', `ghp_${'a1B2c3D4e5F6g7H8i9J0'.repeat(2).slice(0, 36)}`));
  assert.ok(finds('generic-api-key', `api_key = "${random}"`));
});

test("no other vendor's rule claims a key of ours, wherever it stands", () => {
  const claims = new Map<string, number>();
  const keys = Array.from({ length: 200 }, (_, index) =>
    makeKey(index % 2 === 0 ? keyPrefixes.tenant : keyPrefixes.operator, '00'),
  );
  for (const { key } of keys) {
    for (const place of places) {
      for (const { rule, find } of scanners) {
        const isClaimed = find(place(key)).some((secret) => secret.includes(key) || key.includes(secret));
        if (isClaimed) claims.set(rule.id, (claims.get(rule.id) ?? 0) + 1);
      }
    }
  }
  assert.deepEqual(
    [...claims.keys()].filter((id) => !generic.has(id)),
    [],
  );
  console.log(`conformance: gitleaks rules against our keys ${scanners.length} cases`);
});

test('our rule finds each key of ours, whole, wherever it stands', () => {
  for (let index = 0; index < 2000; index++) {
    const { key } = makeKey(index % 2 === 0 ? keyPrefixes.tenant : keyPrefixes.operator, '00');
    for (const place of places) assert.deepEqual(ourScanner.find(place(key)), [key], place(key));
  }
});

/**
 * Texts that an expression may match. The generator knows neither flags in groups nor assertions but ^ and $: without the
 * ones its examples are of one case, and for the others the text stands between two line ends.
 */
function examplesOf({ source }: RegExp): string[] {
  const plain = source
    .replaceAll(/\(\?[ims-]+:/g, '(?:')
    .replaceAll(/\(\?<?[=!]\[\^\]\)/g, '')
    .replaceAll(/\\[bB]/g, '');
  const texts = fc.stringMatching(new RegExp(plain)).map((text) => `\n${text}\n`);
  return fc.sample(texts, { numRuns: 10, seed: 20 });
}

test('our rule finds nothing in what the rules of others are made for', () => {
  let examples = 0;
  const without: string[] = [];
  for (const { rule } of scanners) {
    if (rule.source === null) continue;
    const expression = new RegExp(translated(rule.source));
    const found = examplesOf(expression).filter((example) => expression.test(example));
    for (const example of found) assert.deepEqual(ourScanner.find(example), [], `${rule.id}: ${example}`);
    examples += found.length;
    if (found.length === 0) without.push(rule.id);
  }
  console.log(`no example could be made for ${without.length} rules: ${without.join(', ')}`);
  assert.ok(without.length < 10, without.join(', '));
  console.log(`conformance: gitleaks examples against our rule ${examples} cases`);
});
