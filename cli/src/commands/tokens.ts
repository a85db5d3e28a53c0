import { maximumTokenSeconds, permissions } from '@stoa/contracts';
import type { TenantClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
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
import { moment } from '../formats.ts';

type Body = NonNullable<Parameters<TenantClient['tokens']['create']>[0]>;
type Revocation = Parameters<TenantClient['tokens']['revoke']>[0];

interface CreateFlags extends CommonFlags {
  readonly scope?: NonNullable<Body['scopes']>;
  readonly endUser?: string;
  readonly seconds?: number;
}

interface RevokeFlags extends CommonFlags {
  readonly keyId?: string;
  readonly member?: string;
  readonly endUser?: string;
  readonly all?: boolean;
}

export function addTokenCommands(program: Command, context: Context): void {
  const tokens = program.command('tokens').description('short-lived access tokens of your tenant');
  withConnection(
    tokens
      .command('create')
      .description('change your key for a token and show it, this once, on standard output')
      .addOption(new Option('--scope <permission...>', 'what it may do').choices(permissions))
      .option('--end-user <id>', 'whom it is for; its requests can name no other')
      .option('--seconds <number>', `how long it lives (default: ${maximumTokenSeconds})`, positiveInteger),
    'tenant',
  )
    .addHelpText('after', example('stoa tokens create --end-user user-42 --seconds 300'))
    .action((flags: CreateFlags) => create(context, flags));
  withConnection(
    tokens
      .command('revoke')
      .argument('[token]', 'its id, tok_...')
      .description('end one token, or all until now of a key, a member, an end user or the tenant')
      .option('--key-id <key>', 'all that were made with this key')
      .option('--member <member>', 'all of this member: mem_...')
      .option('--end-user <id>', 'all for this end user')
      .option('--all', 'all of your tenant'),
    'tenant',
  )
    .addHelpText('after', example('stoa tokens revoke tok_...', 'stoa tokens revoke --end-user user-42'))
    .action((id: string | undefined, flags: RevokeFlags) => revoke(context, id, flags));
}

async function create(context: Context, flags: CreateFlags): Promise<void> {
  const body: Body = {
    ...(flags.scope === undefined ? {} : { scopes: flags.scope }),
    ...(flags.endUser === undefined ? {} : { end_user: flags.endUser }),
    ...(flags.seconds === undefined ? {} : { expires_in: flags.seconds }),
  };
  const token = await asTenant(context, flags, (client) => client.tokens.create(body));
  if (flags.json === true) return printJson(context, token);
  print(context, token.token);
  remark(context, `Token ${token.id}, until ${moment(token.expires_at)}.`);
}

async function revoke(context: Context, id: string | undefined, flags: RevokeFlags): Promise<void> {
  const body: Revocation = {
    ...(id === undefined ? {} : { token_id: id }),
    ...(flags.keyId === undefined ? {} : { key_id: flags.keyId }),
    ...(flags.member === undefined ? {} : { member_id: flags.member }),
    ...(flags.endUser === undefined ? {} : { end_user: flags.endUser }),
    ...(flags.all === true ? { all: true as const } : {}),
  };
  const done = await asTenant(context, flags, (client) => client.tokens.revoke(body));
  if (flags.json === true) return printJson(context, done);
  const what = done.id === null ? 'all tokens of the tenant' : `${done.revoked.replace('_', ' ')} ${done.id}`;
  print(
    context,
    done.not_before === null ? `Revoked: ${what}.` : `Revoked until ${moment(done.not_before)}: ${what}.`,
  );
}
