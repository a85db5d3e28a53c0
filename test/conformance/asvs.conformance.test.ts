/**
 * docs/security/asvs.md has one line for each requirement of the ASVS at levels 1 and 2 in the chapters of authentication,
 * sessions, authorisation, tokens and OAuth, and repeats none of its text, whose licence is another than ours.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { z } from 'zod';

const chapters = ['V6', 'V7', 'V8', 'V9', 'V10'];
const states = ['proven', 'documented', 'not applicable', 'not done'];
/** So many words of the standard in a row would be a quotation. */
const quotedWords = 7;

const requirements = z
  .array(z.object({ id: z.string(), level: z.number(), chapter: z.string(), text: z.string() }))
  .parse(
    JSON.parse(
      readFileSync(join(process.env['STOA_CONFORMANCE_DATA'] ?? '', 'security/asvs-5.0.0.json'), 'utf8'),
    ),
  );
const page = readFileSync(join(import.meta.dirname, '../../docs/security/asvs.md'), 'utf8');

test('every requirement of levels 1 and 2 in these chapters has its line, and no other has one', () => {
  const wanted = requirements.filter(({ level, chapter }) => level <= 2 && chapters.includes(chapter));
  const lines = [...page.matchAll(/^\| (V[\d.]+) \| (\d) \| ([a-z ]+) \| (.+) \|$/gm)].map(
    ([, id = '', level = '', state = '', why = '']) => ({ place: `${id} ${level}`, state, why }),
  );
  assert.deepEqual(
    lines.map(({ place }) => place).sort(),
    wanted.map(({ id, level }) => `${id} ${level}`).sort(),
  );
  for (const { place, state, why } of lines) {
    assert.ok(states.includes(state), `${place}: ${state}`);
    assert.ok(why.trim().length > 5, `${place}: why?`);
  }
  for (const state of states) {
    const count = lines.filter((line) => line.state === state).length;
    assert.ok(page.includes(`${count} ${state}`), `the page says how many are ${state}: ${count}`);
  }
  console.log(`conformance: asvs-5.0.0.json ${wanted.length} cases`);
});

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

test('the page holds no sentence of the standard', () => {
  const own = ` ${wordsOf(page).join(' ')} `;
  for (const { id, text } of requirements) {
    const words = wordsOf(text);
    for (let at = 0; at + quotedWords <= words.length; at += 1) {
      const run = words.slice(at, at + quotedWords).join(' ');
      assert.ok(!own.includes(` ${run} `), `${id}: "${run}"`);
    }
  }
});
