import { tenantStates } from '@stoa/contracts';
import type { OperatorClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
  asOperator,
  collect,
  type CommonFlags,
  type Context,
  example,
  type ListFlags,
  print,
  printJson,
  remark,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { moment } from '../formats.ts';
import { factLines, tableLines } from '../table.ts';
import { printableLine, type Terminal } from '../terminal.ts';

type Tenant = Awaited<ReturnType<OperatorClient['tenants']['read']>>;
type State = Tenant['state'];

export function addTenantCommands(program: Command, context: Context): void {
  const tenants = program.command('tenants').description('the customers of this platform (operator)');
  withConnection(tenants.command('create').argument('<name>').description('create a tenant'), 'operator')
    .addHelpText('after', example('stoa tenants create Acme'))
    .action(async (name: string, flags: CommonFlags) => {
      const tenant = await asOperator(context, flags, (client) => client.tenants.create({ name }));
      show(context, flags, tenant);
      if (flags.json !== true)
        remark(context, '', `Next, a key for it: stoa keys create "Back end" --tenant ${tenant.id}`);
    });
  withConnection(
    withList(tenants.command('list').description('list tenants of every state, newest first')).addOption(
      new Option('--state <state>', 'only those in this state').choices(tenantStates),
    ),
    'operator',
  )
    .addHelpText('after', example('stoa tenants list --state suspended'))
    .action((flags: ListFlags & { state?: State }) => list(context, flags));
  withConnection(
    tenants.command('show').argument('<tenant>', 'its id, ten_...').description('show one tenant'),
    'operator',
  )
    .addHelpText('after', example('stoa tenants show ten_01h455vb4pex5vsknk084sn02q'))
    .action(async (id: string, flags: CommonFlags) =>
      show(context, flags, await asOperator(context, flags, (client) => client.tenants.read(id))),
    );
  addChanges(tenants, context);
}

function addChanges(tenants: Command, context: Context): void {
  const id = 'ten_01h455vb4pex5vsknk084sn02q';
  const reason = ['--reason <text>', 'kept in the audit'] as const;
  withConnection(
    tenants
      .command('suspend')
      .argument('<tenant>', 'its id, ten_...')
      .description('refuse its calls within one second, until it is resumed')
      .option(...reason),
    'operator',
  )
    .addHelpText('after', example(`stoa tenants suspend ${id} --reason "Unpaid invoice"`))
    .action(async (tenant: string, flags: CommonFlags & { reason?: string }) =>
      show(
        context,
        flags,
        await asOperator(context, flags, (client) => client.tenants.suspend(tenant, flags.reason)),
      ),
    );
  withConnection(
    tenants
      .command('resume')
      .argument('<tenant>', 'its id, ten_...')
      .description('serve a suspended tenant again, or restore a deleted one')
      .option(...reason),
    'operator',
  )
    .addHelpText('after', example(`stoa tenants resume ${id}`))
    .action(async (tenant: string, flags: CommonFlags & { reason?: string }) =>
      show(
        context,
        flags,
        await asOperator(context, flags, (client) => client.tenants.resume(tenant, flags.reason)),
      ),
    );
  withConnection(
    tenants
      .command('delete')
      .argument('<tenant>', 'its id, ten_...')
      .description('stop its keys now; its data goes after 30 days of grace'),
    'operator',
  )
    .addHelpText('after', example(`stoa tenants delete ${id}`))
    .action(async (tenant: string, flags: CommonFlags) => {
      const deleted = await asOperator(context, flags, (client) => client.tenants.remove(tenant));
      show(context, flags, deleted);
      if (flags.json !== true)
        remark(
          context,
          '',
          `Until ${moment(deleted.purge_after)} it can be restored: stoa tenants resume ${tenant}`,
        );
    });
}

async function list(context: Context, flags: ListFlags & { state?: State }): Promise<void> {
  const state = flags.state === undefined ? {} : { state: flags.state };
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.tenants.list({ ...query, ...state }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Tenant>(
      [
        { title: 'ID', value: (tenant) => tenant.id },
        { title: 'NAME', value: (tenant) => tenant.name },
        {
          title: 'STATE',
          value: (tenant) => tenant.state,
          style: (_, tenant) => stateText(tenant.state, paint),
        },
        { title: 'CREATED', value: (tenant) => moment(tenant.created_at) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

function show(context: Context, flags: CommonFlags, tenant: Tenant): void {
  if (flags.json === true) return printJson(context, tenant);
  const facts: [string, string][] = [
    ['id', tenant.id],
    ['name', printableLine(tenant.name)],
    ['state', stateText(tenant.state, context.terminal.paint)],
    ['created', moment(tenant.created_at)],
  ];
  if (tenant.suspended_at !== null) facts.push(['suspended', moment(tenant.suspended_at)]);
  if (tenant.deleted_at !== null) facts.push(['deleted', moment(tenant.deleted_at)]);
  if (tenant.purge_after !== null) facts.push(['purged after', moment(tenant.purge_after)]);
  print(context, ...factLines(facts, context.terminal));
}

function stateText(state: State, paint: Terminal['paint']): string {
  return paint(state === 'active' ? 'green' : state === 'suspended' ? 'yellow' : 'red', state);
}
