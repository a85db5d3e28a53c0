/**
 * The Porter stemmer (M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980), so that `isolated`,
 * `isolation` and `isolates` are one term. Input is lower-case ASCII; other words come back as they are.
 */
const consonant = '[^aeiou]';
const vowel = '[aeiouy]';
const consonants = `${consonant}[^aeiouy]*`;
const vowels = `${vowel}[aeiou]*`;
const hasMeasure = new RegExp(`^(${consonants})?${vowels}${consonants}`);
const hasMeasureOne = new RegExp(`^(${consonants})?${vowels}${consonants}(${vowels})?$`);
const hasMeasureTwo = new RegExp(`^(${consonants})?${vowels}${consonants}${vowels}${consonants}`);
const hasVowel = new RegExp(`^(${consonants})?${vowel}`);
const endsShort = new RegExp(`^${consonants}${vowel}[^aeiouwxy]$`);
const endsDouble = /([^aeiouylsz])\1$/;

type Endings = readonly (readonly [ending: string, replacement: string])[];

const secondStep: Endings = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['bli', 'ble'],
  ['alli', 'al'],
  ['entli', 'ent'],
  ['eli', 'e'],
  ['ousli', 'ous'],
  ['ization', 'ize'],
  ['ation', 'ate'],
  ['ator', 'ate'],
  ['alism', 'al'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['biliti', 'ble'],
  ['logi', 'log'],
];

const thirdStep: Endings = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ful', ''],
  ['ness', ''],
];

const fourthStep =
  /^(.+?)(al|ance|ence|er|ic|able|ible|ant|ement|ment|ent|ou|ism|ate|iti|ous|ive|ize)$|^(.+?[st])(ion)$/;

/** The stem of a word of lower-case ASCII letters; words of one or two letters, or with other characters, unchanged. */
export function stem(word: string): string {
  if (word.length < 3 || !/^[a-z]+$/.test(word)) return word;
  let text = word.startsWith('y') ? `Y${word.slice(1)}` : word;
  text = dropPlural(text);
  text = dropPast(text);
  if (text.endsWith('y') && hasVowel.test(text.slice(0, -1))) text = `${text.slice(0, -1)}i`;
  text = replaceEnding(text, secondStep);
  text = replaceEnding(text, thirdStep);
  text = dropSuffix(text);
  if (text.endsWith('e')) {
    const base = text.slice(0, -1);
    if (hasMeasureTwo.test(base) || (hasMeasureOne.test(base) && !endsShort.test(base))) text = base;
  }
  if (text.endsWith('ll') && hasMeasureTwo.test(text)) text = text.slice(0, -1);
  return text.toLowerCase();
}

function dropPlural(word: string): string {
  if (word.endsWith('sses') || word.endsWith('ies')) return word.slice(0, -2);
  return /[^s]s$/.test(word) ? word.slice(0, -1) : word;
}

function dropPast(word: string): string {
  if (word.endsWith('eed')) return hasMeasure.test(word.slice(0, -3)) ? word.slice(0, -1) : word;
  const base = /^(.+?)(ed|ing)$/.exec(word)?.[1];
  if (base === undefined || !hasVowel.test(base)) return word;
  if (/(at|bl|iz)$/.test(base)) return `${base}e`;
  if (endsDouble.test(base)) return base.slice(0, -1);
  return endsShort.test(base) ? `${base}e` : base;
}

function replaceEnding(word: string, endings: Endings): string {
  const found = longestEnding(word, endings);
  if (!found) return word;
  const base = word.slice(0, -found[0].length);
  return hasMeasure.test(base) ? base + found[1] : word;
}

function longestEnding(word: string, endings: Endings): Endings[number] | undefined {
  let found: Endings[number] | undefined;
  for (const row of endings) {
    if (word.endsWith(row[0]) && row[0].length > (found?.[0].length ?? 0)) found = row;
  }
  return found;
}

function dropSuffix(word: string): string {
  const match = fourthStep.exec(word);
  const base = match?.[1] ?? match?.[3];
  return base !== undefined && hasMeasureTwo.test(base) ? base : word;
}
