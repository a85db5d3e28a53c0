import { type UsageGroup, usageGroups } from '@stoa/contracts';
import type { TenantClient } from '@stoa/sdk';
import { type Command, InvalidArgumentError } from 'commander';
import {
  asTenant,
  type CommonFlags,
  type Context,
  example,
  print,
  printJson,
  remark,
  withConnection,
} from '../context.ts';
import { amount, count, counted } from '../formats.ts';
import { type Column, tableLines } from '../table.ts';

type Report = Awaited<ReturnType<TenantClient['usage']['read']>>;
type Row = Report['data'][number];
/** A group's sums, or the sums over all groups. */
type Sums = Report['totals'] & Partial<Row>;

interface UsageFlags extends CommonFlags {
  readonly by: string;
  readonly from?: string;
  readonly to?: string;
  readonly model?: string;
  readonly project?: string;
}

export function addUsageCommand(program: Command, context: Context): void {
  withConnection(
    program
      .command('usage')
      .description('sum up requests, tokens and cost')
      .option('--by <groups>', `one or several of ${usageGroups.join(', ')}`, groups, 'day')
      .option('--from <day>', 'first day, in UTC (default: 29 days before the last)', day)
      .option('--to <day>', 'last day, in UTC (default: today)', day)
      .option('--model <target>', 'only what this target answered')
      .option('--project <project>', 'only of this project'),
    'tenant',
  )
    .addHelpText(
      'after',
      example('stoa usage', 'stoa usage --by model,key --from 2026-01-01 --to 2026-01-31'),
    )
    .action((flags: UsageFlags) => usage(context, flags));
}

async function usage(context: Context, flags: UsageFlags): Promise<void> {
  const query = {
    group_by: flags.by,
    ...(flags.from === undefined ? {} : { from: flags.from }),
    ...(flags.to === undefined ? {} : { to: flags.to }),
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.project === undefined ? {} : { project_id: flags.project }),
  };
  const report = await asTenant(context, flags, async (client) => {
    const rows: Row[] = [];
    let last: Report | null = null;
    for await (const page of client.usage.list(query).pages()) {
      rows.push(...page.data);
      last = page;
    }
    return last === null
      ? client.usage.read(query)
      : { ...last, data: rows, first_id: rows[0]?.id ?? null, has_more: false };
  });
  if (flags.json === true) return printJson(context, report);
  if (report.data.length === 0) {
    return remark(context, `Nothing was used from ${report.from} to ${report.to}.`);
  }
  const sums: Sums[] = report.data.length === 1 ? report.data : [...report.data, report.totals];
  print(context, ...tableLines<Sums>(columnsOf(flags.by, context), sums, context.terminal));
  const { unpriced_requests: unpriced, estimated_requests: estimated } = report.totals;
  if (unpriced > 0)
    remark(context, `Without a price, and in no sum of money: ${counted(unpriced, 'request')}.`);
  if (estimated > 0) remark(context, `With estimated tokens: ${counted(estimated, 'request')}.`);
}

function columnsOf(by: string, { terminal }: Context): Column<Sums>[] {
  const groupColumns = by.split(',').map((name, index): Column<Sums> => {
    const group = usageGroups.find((known) => known === name) ?? 'day';
    return {
      title: group.replace('_', ' ').toUpperCase(),
      // The totals are the one row without an id.
      value: (row) => (row.id === undefined ? (index === 0 ? 'total' : '') : (groupValue(row, group) ?? '-')),
      style: (text, row) => (row.id === undefined ? terminal.paint('bold', text) : text),
    };
  });
  return [
    ...groupColumns,
    { title: 'REQUESTS', align: 'right', value: (row) => count(row.requests) },
    { title: 'FAILED', align: 'right', value: (row) => count(row.failed_requests) },
    { title: 'REFUSED', align: 'right', value: (row) => count(row.refused_requests) },
    { title: 'IN', align: 'right', value: (row) => count(row.input_tokens) },
    { title: 'OUT', align: 'right', value: (row) => count(row.output_tokens) },
    { title: 'COST', align: 'right', value: (row) => amount(row.cost) },
    { title: 'CHARGE', align: 'right', value: (row) => amount(row.charge) },
  ];
}

function groupValue(row: Partial<Row>, group: UsageGroup): string | null | undefined {
  switch (group) {
    case 'day':
      return row.day;
    case 'model':
      return row.model;
    case 'key':
      return row.key_id;
    case 'project':
      return row.project_id;
    case 'end_user':
      return row.end_user;
  }
}

function groups(text: string): string {
  const names = text.split(',').map((name) => name.trim());
  const isKnown = names.every((name) => usageGroups.some((group) => group === name));
  if (!isKnown) throw new InvalidArgumentError(`It must be one or several of ${usageGroups.join(', ')}.`);
  return names.join(',');
}

function day(text: string): string {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) throw new InvalidArgumentError('It must be a day: 2026-01-31.');
  return text;
}
