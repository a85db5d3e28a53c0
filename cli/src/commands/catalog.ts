import { configurableProviderKinds } from '@stoa/contracts';
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
  remark,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { usageFailure } from '../failure.ts';
import { counted, perMillion } from '../formats.ts';
import { readAll } from '../input.ts';
import { tableLines } from '../table.ts';

type Model = Awaited<ReturnType<TenantClient['models']['list']>>['data'][number];
type Provider = Awaited<ReturnType<OperatorClient['providers']['read']>>;
type Price = Awaited<ReturnType<OperatorClient['prices']['override']>>;

/** What a tenant can write in `model`. */
export function addModelCommands(program: Command, context: Context): void {
  const models = program.command('models').description('what can be written in `model`');
  withConnection(models.command('list').description('list the models of your tenant'), 'tenant')
    .addHelpText('after', example('stoa models list'))
    .action((flags: CommonFlags) => listModels(context, flags));
}

/** Where models come from, and what they cost. */
export function addProviderCommands(program: Command, context: Context): void {
  addProviders(program, context);
  const prices = program.command('prices').description('the price book (operator)');
  withConnection(
    withList(prices.command('list').description('list the prices in effect, overrides first'))
      .option('--model <text>', 'only models or targets that hold this text')
      .option('--provider <name>', 'only prices of this provider')
      .addOption(new Option('--source <source>', 'only of this source').choices(['package', 'override'])),
    'operator',
  )
    .addHelpText('after', example('stoa prices list --model gpt-4o --provider openai'))
    .action((flags: PriceFlags) => listPrices(context, flags));
}

interface PriceFlags extends ListFlags {
  readonly model?: string;
  readonly provider?: string;
  readonly source?: Price['source'];
}

interface ProviderFlags extends CommonFlags {
  readonly kind: (typeof configurableProviderKinds)[number];
  readonly baseUrl?: string;
  readonly credentialEnv?: string;
  readonly credentialStdin?: boolean;
}

function addProviders(program: Command, context: Context): void {
  const providers = program.command('providers').description('the servers that models come from (operator)');
  withConnection(
    withList(providers.command('list').description('list providers of every source, by name')),
    'operator',
  )
    .addHelpText('after', example('stoa providers list'))
    .action((flags: ListFlags) => listProviders(context, flags));
  withConnection(
    providers
      .command('create')
      .argument('<name>', 'lower case: it is shown in explanations')
      .description('add a provider; what it lists become models by themselves')
      .addOption(
        new Option('--kind <kind>', 'what it speaks')
          .choices(configurableProviderKinds)
          .default('openai-compatible'),
      )
      .option('--base-url <url>', 'where it is, with its version path')
      .option('--credential-env <name>', 'the environment variable that holds its API key')
      .option('--credential-stdin', 'read its API key from standard input'),
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa providers create local --base-url http://127.0.0.1:11434/v1',
        'stoa providers create anthropic --kind anthropic --credential-env ANTHROPIC_API_KEY',
      ),
    )
    .action((name: string, flags: ProviderFlags) => createProvider(context, name, flags));
}

async function createProvider(context: Context, name: string, flags: ProviderFlags): Promise<void> {
  const credential = await credentialOf(context, flags);
  const provider = await asOperator(context, flags, (client) =>
    client.providers.create({
      name,
      kind: flags.kind,
      ...(flags.baseUrl === undefined ? {} : { base_url: flags.baseUrl }),
      ...(credential === null ? {} : { credential }),
    }),
  );
  if (flags.json === true) return printJson(context, provider);
  print(context, ...providerTable(context, [provider]));
}

/** Never from an argument: those are seen by every user of the machine. */
async function credentialOf(context: Context, flags: ProviderFlags): Promise<string | null> {
  if (flags.credentialStdin === true) return (await readAll(context.stdin)).trim();
  if (flags.credentialEnv === undefined) return null;
  const value = context.surroundings.env[flags.credentialEnv];
  if (value === undefined || value === '') throw usageFailure(`${flags.credentialEnv} is not set.`);
  return value;
}

async function listModels(context: Context, flags: CommonFlags): Promise<void> {
  const models = await asTenant(context, flags, (client) => client.models.list());
  if (flags.json === true) return printJson(context, models);
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Model>(
      [
        { title: 'ID', value: (model) => model.id, style: (text) => paint('bold', text) },
        { title: 'KIND', value: (model) => model.kind },
        { title: 'FROM', value: (model) => model.owned_by },
        { title: 'GENERATIVE', value: (model) => (model.generative ? 'yes' : 'no') },
        {
          title: 'USD/1M IN',
          align: 'right',
          value: (model) => (model.price === null ? '-' : perMillion(model.price.input)),
        },
        {
          title: 'USD/1M OUT',
          align: 'right',
          value: (model) => (model.price === null ? '-' : perMillion(model.price.output)),
        },
      ],
      models.data,
      context.terminal,
    ),
  );
}

async function listProviders(context: Context, flags: ListFlags): Promise<void> {
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.providers.list(query).page()),
  );
  if (flags.json === true) return printJson(context, page);
  print(context, ...providerTable(context, page.data));
  remarkMore(context, page);
}

function providerTable({ terminal }: Context, providers: readonly Provider[]): string[] {
  return tableLines<Provider>(
    [
      { title: 'ID', value: (provider) => provider.id },
      { title: 'NAME', value: (provider) => provider.name },
      { title: 'KIND', value: (provider) => provider.kind },
      { title: 'SOURCE', value: (provider) => provider.source },
      { title: 'STATE', value: (provider) => (provider.enabled ? 'enabled' : 'disabled') },
      { title: 'DISCOVERY', value: discoveryOf },
      { title: 'BASE URL', value: (provider) => provider.base_url ?? '-' },
    ],
    providers,
    terminal,
  );
}

function discoveryOf({ discovery }: Provider): string {
  return discovery.state === 'working' ? counted(discovery.models, 'model') : discovery.state;
}

async function listPrices(context: Context, flags: PriceFlags): Promise<void> {
  const filter = {
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.provider === undefined ? {} : { provider: flags.provider }),
    ...(flags.source === undefined ? {} : { source: flags.source }),
  };
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.prices.list({ ...query, ...filter }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  print(
    context,
    ...tableLines<Price>(
      [
        { title: 'FOR', value: (price) => price.target ?? price.model ?? '-' },
        { title: 'PROVIDER', value: (price) => price.provider ?? '-' },
        { title: 'USD/1M IN', align: 'right', value: (price) => price.rates.input ?? '-' },
        { title: 'CACHED', align: 'right', value: (price) => price.rates.cached_input ?? '-' },
        { title: 'USD/1M OUT', align: 'right', value: (price) => price.rates.output ?? '-' },
        { title: 'TIERS', align: 'right', value: (price) => String(price.tiers.length) },
        { title: 'SOURCE', value: (price) => price.source },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}
