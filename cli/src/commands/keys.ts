import { permissions, roles } from '@stoa/contracts';
import type { TenantClient } from '@stoa/sdk';
import { type Command, InvalidArgumentError, Option } from 'commander';
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
  remark,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { moment } from '../formats.ts';
import { tableLines } from '../table.ts';

type Key = Awaited<ReturnType<TenantClient['keys']['read']>>;
type Body = Parameters<TenantClient['keys']['create']>[0];

interface OfTenant {
  readonly tenant?: string;
}

interface CreateFlags extends CommonFlags, OfTenant {
  readonly role: Body['role'];
  readonly scope?: NonNullable<Body['scopes']>;
  readonly project?: string;
  readonly expires?: string;
}

const ofTenant = [
  '--tenant <tenant>',
  "as the operator, a tenant's: ten_... (default: your own tenant's)",
] as const;

/** Without `--tenant` they speak as the tenant itself, with it as the operator. */
export function addKeyCommands(program: Command, context: Context): void {
  const keys = program.command('keys').description('the keys of a tenant');
  withConnection(
    keys
      .command('create')
      .argument('<name>', 'what people know it by')
      .description('create a key and show it, this once, on standard output')
      .addOption(new Option('--role <role>', 'what it may do').choices(roles).default('developer'))
      .addOption(new Option('--scope <permission...>', 'narrows the role').choices(permissions))
      .option('--project <project>', 'what it is for, in requests and usage')
      .option('--expires <time>', 'when it stops working: 2027-01-31 or 2027-01-31T12:00:00Z', expiry)
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa keys create "Back end" --role developer',
        'stoa keys create admin --role admin --tenant ten_...',
      ),
    )
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
  withConnection(
    withList(
      keys
        .command('list')
        .description('list keys, newest first')
        .option(...ofTenant),
    ),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa keys list', 'stoa keys list --tenant ten_...'))
    .action((flags: ListFlags & OfTenant) => list(context, flags));
  withConnection(
    keys
      .command('revoke')
      .argument('<key>', 'its id, the part after stoa_sk_')
      .description('revoke a key for good, within one second')
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa keys revoke 00a1B2c3D4e5'))
    .action((id: string, flags: CommonFlags & OfTenant) => revoke(context, id, flags));
}

async function create(context: Context, name: string, flags: CreateFlags): Promise<void> {
  const body: Body = {
    name,
    role: flags.role,
    ...(flags.scope === undefined ? {} : { scopes: flags.scope }),
    ...(flags.project === undefined ? {} : { project_id: flags.project }),
    ...(flags.expires === undefined ? {} : { expires_at: flags.expires }),
  };
  const { tenant } = flags;
  const key =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.keys.create(body))
      : await asOperator(context, flags, (client) => client.keys.create(tenant, body));
  if (flags.json === true) return printJson(context, key);
  print(context, key.key);
  remark(context, `Key ${key.id} (${key.role}). It is shown this once; keep it somewhere safe.`);
}

async function list(context: Context, flags: ListFlags & OfTenant): Promise<void> {
  const { tenant } = flags;
  const page =
    tenant === undefined
      ? await asTenant(context, flags, (client) => collect(flags, (query) => client.keys.list(query).page()))
      : await asOperator(context, flags, (client) =>
          collect(flags, (query) => client.keys.list(tenant, query).page()),
        );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Key>(
      [
        { title: 'ID', value: (key) => key.id },
        { title: 'NAME', value: (key) => key.name },
        { title: 'ROLE', value: (key) => key.role },
        { title: 'ENDS IN', value: (key) => `...${key.last_four}` },
        {
          title: 'STATE',
          value: stateOf,
          style: (text) => paint(text === 'active' ? 'green' : 'red', text),
        },
        { title: 'LAST USED', value: (key) => moment(key.last_used_at) },
        { title: 'PROJECT', value: (key) => key.project_id ?? '-' },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

async function revoke(context: Context, id: string, flags: CommonFlags & OfTenant): Promise<void> {
  const { tenant } = flags;
  const key =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.keys.revoke(id))
      : await asOperator(context, flags, (client) => client.keys.revoke(tenant, id));
  if (flags.json === true) return printJson(context, key);
  print(context, `Key ${key.id} is revoked since ${moment(key.revoked_at)}.`);
}

function stateOf(key: Key): string {
  if (key.revoked_at !== null) return 'revoked';
  return key.expires_at !== null && Date.parse(key.expires_at) <= Date.now() ? 'expired' : 'active';
}

function expiry(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) throw new InvalidArgumentError('It must be a time, such as 2027-01-31.');
  return at.toISOString();
}
