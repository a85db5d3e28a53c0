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
  positiveInteger,
  print,
  printJson,
  remark,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { moment } from '../formats.ts';
import { tableLines } from '../table.ts';
import { addKeyPolicyCommands } from './key-policy.ts';
import { ofTenant } from './of-tenant.ts';

type Key = Awaited<ReturnType<TenantClient['keys']['read']>>;
type Body = Parameters<TenantClient['keys']['create']>[0];
type RotateBody = NonNullable<Parameters<TenantClient['keys']['rotate']>[1]>;

interface OfTenant {
  readonly tenant?: string;
}

interface CreateFlags extends CommonFlags, OfTenant {
  readonly role: Body['role'];
  readonly scope?: NonNullable<Body['scopes']>;
  readonly project?: string;
  readonly ip?: string[];
  readonly expires?: string;
}

interface KeyListFlags extends ListFlags, OfTenant {
  readonly unused?: number;
  readonly beyondPolicy?: boolean;
}

interface RotateFlags extends CommonFlags, OfTenant {
  readonly overlap?: number;
  readonly expires?: string;
}

const expires = [
  '--expires <time>',
  'when it stops working: 2027-01-31 or 2027-01-31T12:00:00Z',
  expiry,
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
      .option(
        '--ip <network...>',
        'where it may be used from: 192.0.2.0/24 2001:db8::/32 (default: anywhere)',
      )
      .option(...expires)
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa keys create "Back end" --role developer',
        'stoa keys create "Back end" --ip 192.0.2.0/24 --expires 2027-01-31',
        'stoa keys create admin --role admin --tenant ten_...',
      ),
    )
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
  withConnection(
    withList(
      keys
        .command('list')
        .description('list keys, newest first')
        .option('--unused <days>', 'only those that work and were not used for so many days', positiveInteger)
        .option('--beyond-policy', 'only those that work and live longer than the key policy allows')
        .option(...ofTenant),
    ),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example('stoa keys list', 'stoa keys list --unused 90', 'stoa keys list --tenant ten_...'),
    )
    .action((flags: KeyListFlags) => list(context, flags));
  addChangeCommands(keys, context);
  addKeyPolicyCommands(keys, context);
}

/** What is done to a key that is there. */
function addChangeCommands(keys: Command, context: Context): void {
  withConnection(
    keys
      .command('rotate')
      .argument('<key>', 'its id, the part after stoa_sk_')
      .description('give a key a new secret and show it, this once, on standard output')
      .option('--overlap <seconds>', 'how long the present secret is accepted too (default: a day)', seconds)
      .option(...expires)
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example('stoa keys rotate 00a1B2c3D4e5 --overlap 3600', 'stoa keys rotate 00a1B2c3D4e5 --overlap 0'),
    )
    .action((id: string, flags: RotateFlags) => rotate(context, id, flags));
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
    ...(flags.ip === undefined ? {} : { allowed_ips: flags.ip }),
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

async function list(context: Context, flags: KeyListFlags): Promise<void> {
  const { tenant } = flags;
  const filter = {
    ...(flags.unused === undefined ? {} : { unused_days: flags.unused }),
    ...(flags.beyondPolicy === true ? { beyond_policy: 'true' as const } : {}),
  };
  const page =
    tenant === undefined
      ? await asTenant(context, flags, (client) =>
          collect(flags, (query) => client.keys.list({ ...filter, ...query }).page()),
        )
      : await asOperator(context, flags, (client) =>
          collect(flags, (query) => client.keys.list(tenant, { ...filter, ...query }).page()),
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

async function rotate(context: Context, id: string, flags: RotateFlags): Promise<void> {
  const body: RotateBody = {
    ...(flags.overlap === undefined ? {} : { overlap_seconds: flags.overlap }),
    ...(flags.expires === undefined ? {} : { expires_at: flags.expires }),
  };
  const { tenant } = flags;
  const key =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.keys.rotate(id, body))
      : await asOperator(context, flags, (client) => client.keys.rotate(tenant, id, body));
  if (flags.json === true) return printJson(context, key);
  print(context, key.key);
  const until = key.previous_secret_expires_at;
  const before =
    until === null
      ? 'The secret before is refused from now on.'
      : `The secret before works until ${moment(until)}.`;
  remark(context, `Key ${key.id} has a new secret. It is shown this once; keep it somewhere safe. ${before}`);
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

function seconds(text: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new InvalidArgumentError('It must be a whole number of seconds, 0 for none.');
  return Number(text);
}

function expiry(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) throw new InvalidArgumentError('It must be a time, such as 2027-01-31.');
  return at.toISOString();
}
