import { limitSubjects, routeClasses, type tenantLimits } from '@stoa/contracts';
import { type Command, InvalidArgumentError } from 'commander';
import type { z } from 'zod';
import {
  asOperator,
  asTenant,
  type CommonFlags,
  type Context,
  example,
  positiveInteger,
  print,
  printJson,
  withConnection,
} from '../context.ts';
import { usageFailure } from '../failure.ts';
import { count } from '../formats.ts';
import { type Column, tableLines } from '../table.ts';
import { ofTenant } from './of-tenant.ts';

type TenantLimits = z.infer<typeof tenantLimits>;
type TenantRule = TenantLimits['effective'][number];
/** As shown; a key's are counted for the key. */
type ShownRule = Omit<TenantRule, 'per'> & { readonly per: TenantRule['per'] | 'this key' };

/** One `--rule`, read; what it leaves out has the API's default. */
interface GivenRule {
  readonly meter: TenantRule['meter'];
  readonly limit: number;
  readonly period_s: number;
  readonly route_class?: TenantRule['route_class'];
  readonly per?: TenantRule['per'];
  readonly burst?: number;
}

interface ShowFlags extends CommonFlags {
  readonly tenant?: string;
}

interface SetFlags extends ShowFlags {
  readonly rule?: readonly GivenRule[];
  readonly none?: boolean;
  readonly defaults?: boolean;
}

const ruleForm = 'METER:LIMIT/SECONDS[,class=CLASS][,per=PER][,burst=COUNT]';

/** Rate limits: of a tenant, which the operator sets, and of a key, which its tenant sets. */
export function addLimitCommands(program: Command, context: Context): void {
  const limits = program.command('limits').description('rate limits of tenants and keys');
  withConnection(
    limits
      .command('show')
      .description("show your tenant's limits, another's as the operator, or a key's own")
      .argument('[key]', "the id of a key of your tenant's, for its own limits")
      .option(...ofTenant),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example('stoa limits show', 'stoa limits show --tenant ten_01h455vb4pex5vsknk084sn02q'),
    )
    .action((key: string | undefined, flags: ShowFlags) => show(context, key, flags));
  withConnection(
    limits
      .command('set')
      .description("set all limits of a tenant as the operator, or all of a key's own as its tenant")
      .argument('[key]', "the id of a key of your tenant's, for its own limits")
      .option('--tenant <tenant>', 'as the operator, the limits of this tenant: ten_...')
      .option(
        '--rule <rule>',
        `${ruleForm}; METER requests or tokens, CLASS any, ${routeClasses.join(', ')}, PER ${limitSubjects.join(', ')}; several times for several`,
        addRule,
      )
      .option('--none', 'no limits at all')
      .option('--defaults', "of a tenant: the deployment's defaults"),
    'tenant',
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa limits set --tenant ten_01h455vb4pex5vsknk084sn02q --rule requests:6000/60,burst=1000 --rule tokens:200000/60,class=chat,per=key',
        'stoa limits set 00a1B2c3D4e5 --rule requests:60/60,class=chat',
      ),
    )
    .action((key: string | undefined, flags: SetFlags) => set(context, key, flags));
}

async function show(context: Context, key: string | undefined, flags: ShowFlags): Promise<void> {
  const { tenant } = flags;
  if (key !== undefined) {
    requireNoTenant(tenant);
    const found = await asTenant(context, flags, (client) => client.limits.readKey(key));
    return flags.json === true ? printJson(context, found) : tell(context, ofKey(found.rules));
  }
  const found =
    tenant === undefined
      ? await asTenant(context, flags, (client) => client.limits.read())
      : await asOperator(context, flags, (client) => client.limits.read(tenant));
  tellTenant(context, flags, found);
}

async function set(context: Context, key: string | undefined, flags: SetFlags): Promise<void> {
  const { tenant } = flags;
  const rules = rulesOf(flags);
  if (key !== undefined) {
    requireNoTenant(tenant);
    if (rules === null) throw usageFailure('--defaults is for tenants; a key without limits has --none.');
    const misplaced = rules.find(({ per }) => per !== undefined);
    if (misplaced !== undefined)
      throw usageFailure("per= is for a tenant's limits; a key's are counted for the key.");
    const body = { rules: rules.map(({ per: _, ...rule }) => rule) };
    const found = await asTenant(context, flags, (client) => client.limits.replaceKey(key, body));
    return flags.json === true ? printJson(context, found) : tell(context, ofKey(found.rules));
  }
  if (tenant === undefined)
    throw usageFailure('Say whose limits: --tenant ten_... as the operator, or the id of a key.');
  const body = { rules: rules === null ? null : [...rules] };
  tellTenant(
    context,
    flags,
    await asOperator(context, flags, (client) => client.limits.replace(tenant, body)),
  );
}

/** Null for the deployment's defaults. */
function rulesOf({ rule, none, defaults }: SetFlags): readonly GivenRule[] | null {
  const given = [rule !== undefined, none === true, defaults === true].filter(Boolean).length;
  if (given !== 1) throw usageFailure('Send one of --rule (once or several times), --none and --defaults.');
  return defaults === true ? null : (rule ?? []);
}

function requireNoTenant(tenant: string | undefined): void {
  if (tenant !== undefined)
    throw usageFailure("A key's own limits are its tenant's to set: leave --tenant out.");
}

function addRule(text: string, before: readonly GivenRule[] = []): readonly GivenRule[] {
  return [...before, readRule(text)];
}

/** @throws InvalidArgumentError where the text is no rule */
function readRule(text: string): GivenRule {
  const [head = '', ...options] = text.split(',');
  const [, meterText, limitText, periodText] = /^([a-z]+):(\d+)\/(\d+)$/.exec(head) ?? [];
  const meter = (['requests', 'tokens'] as const).find((known) => known === meterText);
  if (meter === undefined || limitText === undefined || periodText === undefined)
    throw new InvalidArgumentError(`It must be ${ruleForm}, such as requests:6000/60.`);
  let rule: GivenRule = { meter, limit: positiveInteger(limitText), period_s: positiveInteger(periodText) };
  for (const option of options) rule = { ...rule, ...readOption(option) };
  return rule;
}

function readOption(option: string): Partial<GivenRule> {
  const at = option.indexOf('=');
  const [name, value] = [option.slice(0, Math.max(0, at)), option.slice(at + 1)];
  if (name === 'burst') return { burst: positiveInteger(value) };
  const routeClass = (['any', ...routeClasses] as const).find((known) => known === value);
  if (name === 'class' && routeClass !== undefined) return { route_class: routeClass };
  const per = limitSubjects.find((known) => known === value);
  if (name === 'per' && per !== undefined) return { per };
  throw new InvalidArgumentError(
    `${option}: must be class=any|${routeClasses.join('|')}, per=${limitSubjects.join('|')} or burst=COUNT.`,
  );
}

function ofKey(rules: readonly Omit<ShownRule, 'per'>[]): ShownRule[] {
  return rules.map((rule) => ({ ...rule, per: 'this key' }));
}

const columns: readonly Column<ShownRule>[] = [
  { title: 'WHAT', value: ({ meter }) => meter },
  { title: 'LIMIT', value: ({ limit }) => count(limit), align: 'right' },
  { title: 'SECONDS', value: ({ period_s: period }) => count(period), align: 'right' },
  { title: 'AT ONCE', value: ({ burst }) => count(burst), align: 'right' },
  { title: 'CLASS', value: ({ route_class: routeClass }) => routeClass },
  { title: 'FOR EACH', value: ({ per }) => per },
];

function tellTenant(context: Context, flags: CommonFlags, limits: TenantLimits): void {
  if (flags.json === true) return printJson(context, limits);
  if (limits.rules === null) print(context, "The deployment's defaults hold.");
  tell(context, limits.effective);
}

function tell(context: Context, rules: readonly ShownRule[]): void {
  if (rules.length === 0) return print(context, 'No limits.');
  print(context, ...tableLines(columns, rules, context.terminal));
}
