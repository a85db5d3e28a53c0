/**
 * SQL text as its statements, for checks that read words. Comments are gone, what is left is in lower case with single
 * blanks, names have lost their quotes. Literals stay; bodies between dollar quotes are apart.
 */
export interface Statement {
  readonly text: string;
  /** What stands between dollar quotes, in order, as it was written. */
  readonly bodies: readonly string[];
}

/** One piece that may hold a semicolon which ends nothing: a comment, a literal, a quoted name, a body. */
const piece =
  /--[^\n]*|\/\*[\s\S]*?\*\/|\be'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([a-z_]\w*)?\$([\s\S]*?)\$\1\$|;/gi;

export function statementsOf(sql: string): Statement[] {
  const statements: Statement[] = [];
  let text = '';
  let bodies: string[] = [];
  const end = (): void => {
    const words = text.replaceAll(/\s+/g, ' ').trim();
    if (words !== '') statements.push({ text: words, bodies });
    text = '';
    bodies = [];
  };
  let from = 0;
  for (const match of sql.matchAll(piece)) {
    const [found, , body] = match;
    text += sql.slice(from, match.index).toLowerCase();
    from = match.index + found.length;
    if (found === ';') end();
    else if (body !== undefined) {
      bodies.push(body);
      text += ' $body$ ';
    } else if (found.startsWith('"')) text += found.slice(1, -1);
    else if (found.startsWith('--') || found.startsWith('/*')) text += ' ';
    else text += found.toLowerCase();
  }
  text += sql.slice(from).toLowerCase();
  end();
  return statements;
}

/** The parts between the commas that stand in no parentheses and no literal. */
export function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = '';
  for (const [token] of text.matchAll(/'(?:[^']|'')*'|[\s\S]/g)) {
    if (token === '(') depth += 1;
    if (token === ')') depth -= 1;
    if (token === ',' && depth === 0) {
      parts.push(part.trim());
      part = '';
    } else part += token;
  }
  parts.push(part.trim());
  return parts.filter((one) => one !== '');
}

/** What stands in the parentheses that open at `from`, without them; null where none opens or they don't close. */
export function parenthesised(text: string, from: number): string | null {
  if (text[from] !== '(') return null;
  let depth = 0;
  for (const match of text.slice(from).matchAll(/'(?:[^']|'')*'|[()]/g)) {
    if (match[0] === '(') depth += 1;
    if (match[0] === ')') depth -= 1;
    if (depth === 0) return text.slice(from + 1, from + match.index);
  }
  return null;
}
