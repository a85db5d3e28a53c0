import type { MatchRule } from './book-document.ts';

/**
 * Compiles a rule of the price data once; the package's own meaning: without regard to case, except for regular
 * expressions, which see the name in lower case. The expressions come with the package and are trusted.
 */
export function compileMatch(rule: MatchRule): (name: string) => boolean {
  if ('or' in rule) {
    const parts = rule.or.map(compileMatch);
    return (name) => parts.some((matches) => matches(name));
  }
  if ('and' in rule) {
    const parts = rule.and.map(compileMatch);
    return (name) => parts.every((matches) => matches(name));
  }
  if ('regex' in rule) {
    const expression = new RegExp(rule.regex);
    return (name) => expression.test(name);
  }
  if ('equals' in rule) return textTest(rule.equals, (name, text) => name === text);
  if ('starts_with' in rule) return textTest(rule.starts_with, (name, text) => name.startsWith(text));
  if ('ends_with' in rule) return textTest(rule.ends_with, (name, text) => name.endsWith(text));
  return textTest(rule.contains, (name, text) => name.includes(text));
}

function textTest(text: string, test: (name: string, text: string) => boolean): (name: string) => boolean {
  const lower = text.toLowerCase();
  return (name) => test(name.toLowerCase(), lower);
}
