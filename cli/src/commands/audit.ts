import { auditOutcomes } from '@stoa/contracts';
import type { OperatorClient, TenantClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
  asOperator,
  asTenant,
  collect,
  type CommonFlags,
  type Context,
  example,
  type ListFlags,
  print,
  printJson,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { moment } from '../formats.ts';
import { tableLines } from '../table.ts';

type OwnQuery = NonNullable<Parameters<TenantClient['audit']['list']>[0]>;
type Query = NonNullable<Parameters<OperatorClient['audit']['list']>[0]>;
type OwnPage = Awaited<ReturnType<ReturnType<TenantClient['audit']['list']>['page']>>;
type Page = Awaited<ReturnType<ReturnType<OperatorClient['audit']['list']>['page']>>;
type Entry = OwnPage['data'][number] | Page['data'][number];

interface FilterFlags {
  readonly operator?: boolean;
  readonly tenant?: string;
  readonly from?: string;
  readonly to?: string;
  readonly actor?: string;
  readonly member?: string;
  readonly action?: string;
  readonly type?: string;
  readonly resource?: string;
  readonly outcome?: NonNullable<OwnQuery['outcome']>;
}

/** Without `--operator` or `--tenant` they speak as the tenant itself. */
export function addAuditCommands(program: Command, context: Context): void {
  const audit = program.command('audit').description('who changed what, and what was denied');
  withConnection(
    withFilter(withList(audit.command('list').description('list entries of the audit, newest first'))),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa audit list --action keys.create',
        'stoa audit list --operator --outcome denied',
        'stoa audit list --tenant ten_... --from 2026-11-01T00:00:00Z',
      ),
    )
    .action((flags: ListFlags & FilterFlags) => list(context, flags));
  withConnection(
    withFilter(
      audit
        .command('export')
        .description('write all entries that the filter names to standard output, one line of JSON each')
        .option('--after <id>', 'go on after this one'),
    ),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa audit export --operator > audit.ndjson'))
    .action((flags: CommonFlags & FilterFlags & { after?: string }) => exportAll(context, flags));
}

function withFilter(command: Command): Command {
  return command
    .option('--operator', 'as the operator: of all tenants, and of operators')
    .option('--tenant <tenant>', 'as the operator: only about this tenant, ten_...')
    .option('--from <time>', 'at this time or later, UTC')
    .option('--to <time>', 'before this time, UTC')
    .option('--actor <key>', 'only what was done with this key, by its id')
    .option('--member <member>', "only what was done with this member's keys, mem_...")
    .option('--action <action>', 'only this act: keys.create, tenants.change')
    .option('--type <type>', 'only resources of this type: api_key, tenant')
    .option('--resource <id>', 'only the resource of this id; needs --type')
    .addOption(new Option('--outcome <outcome>', 'only what ended like this').choices(auditOutcomes));
}

function filterOf(flags: FilterFlags): OwnQuery {
  return {
    from: flags.from,
    to: flags.to,
    actor: flags.actor,
    member: flags.member,
    action: flags.action,
    resource_type: flags.type,
    resource_id: flags.resource,
    outcome: flags.outcome,
  };
}

function operatorFilterOf(flags: FilterFlags): Query {
  return { ...filterOf(flags), tenant_id: flags.tenant };
}

const isAsOperator = (flags: FilterFlags): boolean => flags.operator === true || flags.tenant !== undefined;

async function list(context: Context, flags: ListFlags & FilterFlags): Promise<void> {
  const found = isAsOperator(flags)
    ? await asOperator(context, flags, (client) =>
        collect(flags, (page) => client.audit.list({ ...operatorFilterOf(flags), ...page }).page()),
      )
    : await asTenant(context, flags, (client) =>
        collect(flags, (page) => client.audit.list({ ...filterOf(flags), ...page }).page()),
      );
  if (flags.json === true) {
    printJson(context, found);
    return;
  }
  const rows: readonly Entry[] = found.data;
  print(
    context,
    ...tableLines(
      [
        { title: 'TIME', value: (entry: Entry) => moment(entry.occurred_at) },
        { title: 'ACTION', value: (entry: Entry) => entry.action },
        { title: 'RESOURCE', value: (entry: Entry) => entry.resource?.id ?? '-' },
        { title: 'BY', value: byOf },
        { title: 'FROM', value: (entry: Entry) => entry.client_address ?? '-' },
        { title: 'OUTCOME', value: outcomeOf },
      ],
      rows,
      context.terminal,
    ),
  );
  remarkMore(context, found);
}

function byOf({ actor }: Entry): string {
  const who = actor.member_id ?? actor.id;
  return who === null ? actor.type : `${actor.type} ${who}`;
}

function outcomeOf({ outcome, count }: Entry): string {
  return count === 1 ? outcome : `${outcome} ${count} times`;
}

async function exportAll(
  context: Context,
  flags: CommonFlags & FilterFlags & { readonly after?: string },
): Promise<void> {
  const write = async (entries: AsyncIterable<Entry>): Promise<void> => {
    for await (const entry of entries) {
      const { out } = context.terminal;
      if (!out.write(`${JSON.stringify(entry)}\n`))
        await new Promise((resolve) => out.once('drain', resolve));
    }
  };
  const { after } = flags;
  if (isAsOperator(flags)) {
    await asOperator(context, flags, (client) =>
      write(client.audit.export({ ...operatorFilterOf(flags), after })),
    );
    return;
  }
  await asTenant(context, flags, (client) => write(client.audit.export({ ...filterOf(flags), after })));
}
