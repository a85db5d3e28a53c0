/**
 * What a command writes to, and how. Text of others (names, model answers) may hold escape sequences that would take
 * the terminal over: everything that is shown goes through `printable`.
 */
export interface Terminal {
  readonly out: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  readonly errors: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly paint: Paint;
  /** For what goes to standard error. */
  readonly paintErrors: Paint;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';
export type Paint = (style: Style, text: string) => string;

const codes: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

/** Colours only on a terminal, and never where NO_COLOR is set or TERM is `dumb`. */
export function createTerminal(
  out: Terminal['out'],
  errors: Terminal['errors'],
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const mayPaint = (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return {
    out,
    errors,
    paint: paintFor(mayPaint && out.isTTY === true),
    paintErrors: paintFor(mayPaint && errors.isTTY === true),
  };
}

function paintFor(isOn: boolean): Paint {
  return (style, text) =>
    isOn && text !== '' ? `\u001b[${codes[style][0]}m${text}\u001b[${codes[style][1]}m` : text;
}

/** Text without control characters and what turns its direction; line ends and tabs stay, the others get a picture. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}|[\u202a-\u202e\u2066-\u2069]/gu, (character) => {
    const code = character.charCodeAt(0);
    if (character === '\n' || character === '\t') return character;
    if (character === '\r') return '';
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? '\u2421' : '\ufffd';
  });
}

/** The same in one line, for a cell of a table. */
export function printableLine(text: string): string {
  return printable(text).replace(/[\n\t]+/g, ' ');
}
