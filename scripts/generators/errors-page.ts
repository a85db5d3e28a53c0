import { type ErrorRow, errorTable } from '@stoa/contracts';
import type { Generator } from './generator.ts';

const retrySentences: Record<ErrorRow['retry'], string> = {
  never: 'The same request fails again.',
  later: 'Try again after a while, or after `Retry-After` where it is sent.',
  now: 'Try again at once.',
};

function tableRow([code, row]: [string, ErrorRow]): string {
  return `| <a id="${code}"></a>\`${code}\` | \`${row.type}\` | ${row.retry} | ${row.title} | ${row.remedy} |`;
}

/** docs/reference/errors.md: every code by its status. */
export const errorsPage: Generator = {
  path: 'docs/reference/errors.md',
  produce: async () => {
    const rows: [string, ErrorRow][] = Object.entries(errorTable);
    const statuses = [...new Set(rows.map(([, row]) => row.status))].sort((a, b) => a - b);
    const sections = statuses.flatMap((status) => [
      '',
      `## ${status}`,
      '',
      '| code | type | retry | meaning | what to do |',
      '| --- | --- | --- | --- | --- |',
      ...rows.filter(([, row]) => row.status === status).map(tableRow),
    ]);
    const lines = [
      '# Error codes',
      '',
      '<!-- Generated from contracts/src/errors.ts by `npm run generate`. -->',
      '',
      'Every error has one body: the members of RFC 9457 (`type`, `title`, `status`, `detail`) and beside them',
      '`error: { message, type, param, code }` as OpenAI has it. Decide by `code`; messages may change.',
      '',
      ...Object.entries(retrySentences).map(([name, sentence]) => `- retry \`${name}\`: ${sentence}`),
      ...sections,
      '',
    ];
    return lines.join('\n');
  },
};
