import { printableLine, type Terminal } from './terminal.ts';

export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string;
  /** Numbers stand to the right. */
  readonly align?: 'left' | 'right';
  /** Applied after the width was measured. */
  readonly style?: (text: string, row: Row) => string;
}

const gap = '  ';

/** Lines of a table whose columns are as wide as their widest cell; the last one is not padded. */
export function tableLines<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { paint }: Pick<Terminal, 'paint'>,
): string[] {
  const cells = rows.map((row) => columns.map((column) => printableLine(column.value(row))));
  const widths = columns.map((column, index) =>
    Math.max(displayWidth(column.title), ...cells.map((line) => displayWidth(line[index] ?? ''))),
  );
  const lineOf = (texts: readonly string[], style: (text: string, index: number) => string): string =>
    texts
      .map((text, index) => {
        const padding = ' '.repeat(Math.max(0, (widths[index] ?? 0) - displayWidth(text)));
        const styled = style(text, index);
        return columns[index]?.align === 'right' ? `${padding}${styled}` : `${styled}${padding}`;
      })
      .join(gap)
      .trimEnd();
  const head = lineOf(
    columns.map((column) => column.title),
    (text) => paint('dim', text),
  );
  const body = cells.map((line, number) =>
    lineOf(line, (text, index) => {
      const row = rows[number];
      const style = columns[index]?.style;
      return style === undefined || row === undefined ? text : style(text, row);
    }),
  );
  return [head, ...body];
}

/** Lines `name  value` with the values in one column. */
export function factLines(
  facts: readonly (readonly [name: string, value: string])[],
  { paint }: Pick<Terminal, 'paint'>,
): string[] {
  const width = Math.max(...facts.map(([name]) => displayWidth(name)));
  return facts.map(([name, value]) => `${paint('dim', name.padEnd(width))}${gap}${value}`);
}

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });
const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|\ufe0f/u;

/** Columns that a terminal needs for a text: two for East Asian wide characters and emoji, none for what combines. */
export function displayWidth(text: string): number {
  let width = 0;
  for (const { segment } of segmenter.segment(text)) {
    if (/^[\p{Mark}\p{Format}]+$/u.test(segment)) continue;
    width += wide.test(segment) ? 2 : 1;
  }
  return width;
}
