import type { TenantClient } from '@stoa/sdk';
import type { Command } from 'commander';
import {
  asOperator,
  asTenant,
  type CommonFlags,
  type Context,
  example,
  positiveInteger,
  print,
  printJson,
  remark,
  withConnection,
} from '../context.ts';
import { ofTenant } from './of-tenant.ts';

type Policy = Awaited<ReturnType<TenantClient['keyPolicy']['read']>>;

interface PolicyFlags extends CommonFlags {
  readonly tenant?: string;
}

interface SetFlags extends PolicyFlags {
  readonly maxDays?: number;
  readonly requireExpiry?: boolean;
}

/** How long a tenant's keys may live; without `--tenant` as the tenant itself, with it as the operator. */
export function addKeyPolicyCommands(keys: Command, context: Context): void {
  const policy = keys.command('policy').description('how long keys may live');
  withConnection(
    policy
      .command('show')
      .description('show the policy, and how many keys live longer')
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa keys policy show'))
    .action((flags: PolicyFlags) => show(context, flags));
  withConnection(
    policy
      .command('set')
      .description('set the whole policy: what is left out is allowed; keys that are there go on')
      .option(
        '--max-days <days>',
        'the longest life of a key from when it was made or rotated',
        positiveInteger,
      )
      .option('--require-expiry', 'allow no key without an expiry')
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa keys policy set --max-days 90 --require-expiry'))
    .action((flags: SetFlags) => set(context, flags));
}

async function show(context: Context, flags: PolicyFlags): Promise<void> {
  const { tenant } = flags;
  const policy =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.keyPolicy.read())
      : await asOperator(context, flags, (client) => client.keyPolicy.read(tenant));
  tell(context, flags, policy);
}

async function set(context: Context, flags: SetFlags): Promise<void> {
  const body = {
    max_lifetime_days: flags.maxDays ?? null,
    allow_no_expiry: flags.requireExpiry !== true,
  };
  const { tenant } = flags;
  const policy =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.keyPolicy.replace(body))
      : await asOperator(context, flags, (client) => client.keyPolicy.replace(tenant, body));
  tell(context, flags, policy);
}

function tell(context: Context, flags: PolicyFlags, policy: Policy): void {
  if (flags.json === true) return printJson(context, policy);
  const { max_lifetime_days: days, allow_no_expiry: allowsNone, keys_beyond: beyond } = policy;
  print(
    context,
    days === null
      ? 'A key may live for any time.'
      : `A key may live ${days} days from when it was made or rotated.`,
    allowsNone ? 'It may have no expiry.' : 'It must have an expiry.',
  );
  if (beyond > 0) remark(context, `${beyond} live longer than that: stoa keys list --beyond-policy`);
}
