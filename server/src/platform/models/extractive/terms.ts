import { stem } from './stemmer.ts';

/** Words that say nothing of what a text is about, and the words that people wrap a question in. */
const stopWords = new Set(
  `a about above after again against all also am an and any are as at be because been before being below between both
  but by can cannot could did do does doing don during each few for from further had has have having he her here
  hers him his how i if in into is isn it its itself just ll me more most must my no nor not now of off on once only or
  other our ours out over own re s same shall she should so some such t than that the their them then there these they
  this those through to too under until up us ve very was we were what when where which while who whom whose why will
  with without would you your yours
  hello hey hi thanks thank please tell explain describe say want know wonder question answer help let give show mean
  means exactly really actually get got see look happen happens happened work works much many anything something`
    .split(/\s+/)
    .filter((word) => word !== ''),
);

/**
 * The terms of a text in order: lower case, without stop words, stemmed. `maximum` bounds how many come back.
 * Identifiers fall into their words: `tenant_id` is `tenant` and `id`. Letters of every script count; a
 * single Latin letter or digit says too little.
 */
export function termsOf(text: string, maximum = Number.POSITIVE_INFINITY): string[] {
  const found: string[] = [];
  for (const match of text.toLowerCase().matchAll(/[\p{L}\p{N}]+/gu)) {
    const word = match[0];
    if (word.length > 40 || /^[a-z0-9]$/.test(word) || stopWords.has(word)) continue;
    found.push(stem(word));
    if (found.length >= maximum) break;
  }
  return found;
}

/** Markdown's inline markup taken away, as far as it would add terms that nobody reads: the addresses of links. */
export function withoutMarkup(markdown: string): string {
  return markdown.replace(/\]\([^)\s]*(?:\s+"[^"]*")?\)/g, '] ').replace(/<https?:[^>\s]*>/g, ' ');
}
