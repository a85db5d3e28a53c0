import { roles } from '@stoa/contracts';
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
import { ofTenant } from './of-tenant.ts';

type Member = Awaited<ReturnType<TenantClient['members']['read']>>;
type Body = Parameters<TenantClient['members']['create']>[0];
type Change = Parameters<TenantClient['members']['change']>[1];
type ProjectRole = Member['projects'][number];

interface MemberFlags extends CommonFlags {
  readonly tenant?: string;
  readonly role?: Member['role'] | 'none';
  readonly project?: ProjectRole[];
  readonly email?: string;
  readonly externalId?: string;
}

const roleHelp = 'what they may do in the whole tenant';
const projectOption = [
  '--project <project=role>',
  'what they may do in one project; may be given several times',
  projectRole,
] as const;

/** Without `--tenant` they speak as the tenant itself, with it as the operator. */
export function addMemberCommands(program: Command, context: Context): void {
  const members = program.command('members').description('the members of a tenant');
  withConnection(
    members
      .command('add')
      .argument('<name>', 'what people know them by')
      .description('add a member')
      .addOption(new Option('--role <role>', roleHelp).choices(roles))
      .option(...projectOption)
      .option('--email <address>', 'where they are reached')
      .option('--external-id <id>', "what an outside issuer's tokens name them by")
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example('stoa members add Ada --role developer', 'stoa members add Grace --project search=admin'),
    )
    .action((name: string, flags: MemberFlags) => add(context, name, flags));
  withConnection(
    withList(
      members
        .command('list')
        .description('list members, newest first')
        .option(...ofTenant),
    ),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa members list', 'stoa members list --tenant ten_...'))
    .action((flags: ListFlags & { tenant?: string }) => list(context, flags));
  addChangeCommands(members, context);
}

function addChangeCommands(members: Command, context: Context): void {
  withConnection(
    members
      .command('change')
      .argument('<member>', 'mem_...')
      .description("change what a member may do; the member's keys and tokens follow within one second")
      .addOption(new Option('--role <role>', roleHelp).choices([...roles, 'none']))
      .option(...projectOption)
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa members change mem_... --role viewer'))
    .action((id: string, flags: MemberFlags) => change(context, id, flags));
  withConnection(
    members
      .command('remove')
      .argument('<member>', 'mem_...')
      .description("remove a member for good; the member's keys and tokens end within one second")
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText('after', example('stoa members remove mem_...'))
    .action((id: string, flags: MemberFlags) => remove(context, id, flags));
}

async function add(context: Context, name: string, flags: MemberFlags): Promise<void> {
  const { tenant, role, project, email, externalId } = flags;
  const body: Body = {
    name,
    ...(role === undefined || role === 'none' ? {} : { role }),
    ...(project === undefined ? {} : { projects: project }),
    ...(email === undefined ? {} : { email }),
    ...(externalId === undefined ? {} : { external_id: externalId }),
  };
  const member =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.members.create(body))
      : await asOperator(context, flags, (client) => client.members.create(tenant, body));
  if (flags.json === true) return printJson(context, member);
  print(context, `${member.name} is ${member.id}: ${rolesOf(member)}.`);
}

async function change(context: Context, id: string, flags: MemberFlags): Promise<void> {
  const { tenant, role, project } = flags;
  const body: Change = {
    ...(role === undefined ? {} : { role: role === 'none' ? null : role }),
    ...(project === undefined ? {} : { projects: project }),
  };
  const member =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.members.change(id, body))
      : await asOperator(context, flags, (client) => client.members.change(tenant, id, body));
  if (flags.json === true) return printJson(context, member);
  print(context, `${member.name} is now ${rolesOf(member)}.`);
}

async function remove(context: Context, id: string, flags: MemberFlags): Promise<void> {
  const { tenant } = flags;
  const member =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.members.remove(id))
      : await asOperator(context, flags, (client) => client.members.remove(tenant, id));
  if (flags.json === true) return printJson(context, member);
  print(context, `${member.name} was removed at ${moment(member.removed_at)}.`);
}

async function list(context: Context, flags: ListFlags & { tenant?: string }): Promise<void> {
  const { tenant } = flags;
  const page =
    tenant === undefined
      ? await asTenant(context, flags, (client) =>
          collect(flags, (query) => client.members.list(query).page()),
        )
      : await asOperator(context, flags, (client) =>
          collect(flags, (query) => client.members.list(tenant, query).page()),
        );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  print(
    context,
    ...tableLines<Member>(
      [
        { title: 'ID', value: (member) => member.id },
        { title: 'NAME', value: (member) => member.name },
        { title: 'MAY', value: rolesOf },
        { title: 'EXTERNAL ID', value: (member) => member.external_id ?? '-' },
        { title: 'REMOVED', value: (member) => moment(member.removed_at) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

function rolesOf({ role, projects }: Member): string {
  const inProjects = projects.map((each) => `${each.role} in ${each.project_id}`);
  return [...(role === null ? [] : [role]), ...inProjects].join(', ');
}

function projectRole(text: string, before: ProjectRole[] = []): ProjectRole[] {
  const at = text.lastIndexOf('=');
  const role = roles.find((known) => known === text.slice(at + 1));
  if (at < 1 || role === undefined)
    throw new InvalidArgumentError(`It must be project=role, the role one of ${roles.join(', ')}.`);
  return [...before, { project_id: text.slice(0, at), role }];
}
