import { everyEventType, webhookDeliveryStates, webhookSchemes } from '@stoa/contracts';
import type { TenantClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
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
import { duration, moment } from '../formats.ts';
import { factLines, tableLines } from '../table.ts';
import { printableLine, type Terminal } from '../terminal.ts';

type Webhook = Awaited<ReturnType<TenantClient['webhooks']['read']>>;
type Made = Awaited<ReturnType<TenantClient['webhooks']['create']>>;
type Body = Parameters<TenantClient['webhooks']['create']>[0];
type Delivery = Awaited<ReturnType<TenantClient['webhooks']['deliveries']['read']>>;
type Row = Awaited<
  ReturnType<ReturnType<TenantClient['webhooks']['deliveries']['list']>['page']>
>['data'][number];

interface CreateFlags extends CommonFlags {
  readonly event?: string[];
  readonly description?: string;
  readonly signature: NonNullable<Body['signature']>;
}

interface DeliveryFlags extends ListFlags {
  readonly state?: Row['state'];
  readonly type?: string;
}

const id = 'whe_01jz4x5t2sfkb8m6q0v9c3d7ea';
const deliveryId = 'whd_01jz4x5t2sfkb8m6q0v9c3d7eb';

export function addWebhookCommands(program: Command, context: Context): void {
  const webhooks = program.command('webhooks').description('where events are sent, and what was sent');
  withConnection(
    webhooks
      .command('create')
      .argument('<url>', 'where events are sent by POST')
      .description('have events sent to an endpoint; shows its secret, this once, on standard output')
      .option('--event <type...>', 'types with their versions, such as run.changed.v1 (default: all)')
      .option('--description <text>', 'what people know it by')
      .addOption(
        new Option('--signature <scheme>', 'v1: shared secret, v1a: Ed25519')
          .choices(webhookSchemes)
          .default('v1'),
      ),
    'tenant',
  )
    .addHelpText(
      'after',
      example(
        'stoa webhooks create https://hooks.example.com/stoa --event run.changed.v1 invoice.changed.v1',
      ),
    )
    .action((url: string, flags: CreateFlags) => create(context, url, flags));
  withConnection(withList(webhooks.command('list').description('list webhooks, newest first')), 'tenant')
    .addHelpText('after', example('stoa webhooks list'))
    .action((flags: ListFlags) => list(context, flags));
  withConnection(
    webhooks.command('show').argument('<webhook>', 'its id, whe_...').description('show one webhook'),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks show ${id}`))
    .action((webhook: string, flags: CommonFlags) => show(context, webhook, flags));
  addChangeCommands(webhooks, context);
  addDeliveryCommands(webhooks, context);
}

function addChangeCommands(webhooks: Command, context: Context): void {
  for (const [name, isEnabled, text] of [
    ['enable', true, 'have events sent again'],
    ['disable', false, 'have nothing sent for now; what waits is given up'],
  ] as const) {
    withConnection(
      webhooks.command(name).argument('<webhook>', 'its id, whe_...').description(text),
      'tenant',
    )
      .addHelpText('after', example(`stoa webhooks ${name} ${id}`))
      .action((webhook: string, flags: CommonFlags) => enable(context, webhook, isEnabled, flags));
  }
  withConnection(
    webhooks
      .command('rotate-secret')
      .argument('<webhook>', 'its id, whe_...')
      .description('give it a new secret, shown this once; for a while messages are signed with both')
      .option('--overlap <seconds>', 'how long the present secret signs too (default: a day)', seconds),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks rotate-secret ${id} --overlap 3600`))
    .action((webhook: string, flags: CommonFlags & { overlap?: number }) => rotate(context, webhook, flags));
  withConnection(
    webhooks
      .command('delete')
      .argument('<webhook>', 'its id, whe_...')
      .description('delete a webhook with its deliveries'),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks delete ${id}`))
    .action((webhook: string, flags: CommonFlags) => remove(context, webhook, flags));
}

function addDeliveryCommands(webhooks: Command, context: Context): void {
  withConnection(
    webhooks.command('test').argument('<webhook>', 'its id, whe_...').description('send a test message now'),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks test ${id}`))
    .action((webhook: string, flags: CommonFlags) => test(context, webhook, flags));
  withConnection(
    withList(
      webhooks
        .command('deliveries')
        .argument('<webhook>', 'its id, whe_...')
        .description('list what was sent and what waits, newest first')
        .addOption(new Option('--state <state>', 'only those in this state').choices(webhookDeliveryStates))
        .option('--type <type>', 'only events of this type'),
    ),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks deliveries ${id} --state failed`))
    .action((webhook: string, flags: DeliveryFlags) => deliveries(context, webhook, flags));
  withConnection(
    webhooks
      .command('delivery')
      .argument('<webhook>', 'its id, whe_...')
      .argument('<delivery>', 'its id, whd_...')
      .description('show one delivery: its attempts and its payload'),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks delivery ${id} ${deliveryId}`))
    .action((webhook: string, delivery: string, flags: CommonFlags) =>
      showDelivery(context, webhook, delivery, flags),
    );
  withConnection(
    webhooks
      .command('redeliver')
      .argument('<webhook>', 'its id, whe_...')
      .argument('<delivery>', 'its id, whd_...')
      .description('send a message again, at once'),
    'tenant',
  )
    .addHelpText('after', example(`stoa webhooks redeliver ${id} ${deliveryId}`))
    .action((webhook: string, delivery: string, flags: CommonFlags) =>
      redeliver(context, webhook, delivery, flags),
    );
}

function seconds(text: string): number {
  return text === '0' ? 0 : positiveInteger(text);
}

async function create(context: Context, url: string, flags: CreateFlags): Promise<void> {
  const body: Body = {
    url,
    event_types: flags.event ?? [everyEventType],
    signature: flags.signature,
    ...(flags.description === undefined ? {} : { description: flags.description }),
  };
  const made = await asTenant(context, flags, (client) => client.webhooks.create(body));
  if (flags.json === true) return printJson(context, made);
  printSecret(context, made, `Webhook ${made.id}.`);
}

/** The secret of v1, or what v1a signatures are verified with. */
function printSecret(context: Context, made: Made, what: string): void {
  print(context, made.secret ?? made.public_key ?? '');
  const advice =
    made.secret === null
      ? 'Its signatures are verified with this public key.'
      : 'Its secret is shown this once; keep it somewhere safe.';
  remark(context, `${what} ${advice}`);
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  const page = await asTenant(context, flags, (client) =>
    collect(flags, (query) => client.webhooks.list(query).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Webhook>(
      [
        { title: 'ID', value: (webhook) => webhook.id },
        {
          title: 'STATE',
          value: stateOf,
          style: (text) => paint(text === 'enabled' ? 'green' : 'red', text),
        },
        { title: 'URL', value: (webhook) => printableLine(webhook.url) },
        { title: 'EVENTS', value: (webhook) => webhook.event_types.join(' ') },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

async function show(context: Context, webhookId: string, flags: CommonFlags): Promise<void> {
  const webhook = await asTenant(context, flags, (client) => client.webhooks.read(webhookId));
  if (flags.json === true) return printJson(context, webhook);
  print(context, ...webhookLines(webhook, context.terminal));
}

async function enable(
  context: Context,
  webhookId: string,
  isEnabled: boolean,
  flags: CommonFlags,
): Promise<void> {
  const webhook = await asTenant(context, flags, (client) =>
    client.webhooks.change(webhookId, { enabled: isEnabled }),
  );
  if (flags.json === true) return printJson(context, webhook);
  print(context, `Webhook ${webhook.id} is ${stateOf(webhook)}.`);
}

async function rotate(
  context: Context,
  webhookId: string,
  flags: CommonFlags & { overlap?: number },
): Promise<void> {
  const body = flags.overlap === undefined ? {} : { overlap_seconds: flags.overlap };
  const made = await asTenant(context, flags, (client) => client.webhooks.rotateSecret(webhookId, body));
  if (flags.json === true) return printJson(context, made);
  const until = made.previous_secret_until;
  const before = until === null ? '' : ` The secret before signs too until ${moment(until)}.`;
  printSecret(context, made, `Webhook ${made.id} has a new secret.${before}`);
}

async function remove(context: Context, webhookId: string, flags: CommonFlags): Promise<void> {
  await asTenant(context, flags, (client) => client.webhooks.remove(webhookId));
  if (flags.json === true) return printJson(context, { id: webhookId, deleted: true });
  print(context, `Webhook ${webhookId} is deleted.`);
}

async function test(context: Context, webhookId: string, flags: CommonFlags): Promise<void> {
  const delivery = await asTenant(context, flags, (client) => client.webhooks.test(webhookId));
  if (flags.json === true) return printJson(context, delivery);
  print(context, delivery.id);
  remark(context, `On its way. What came of it: stoa webhooks delivery ${webhookId} ${delivery.id}`);
}

async function deliveries(context: Context, webhookId: string, flags: DeliveryFlags): Promise<void> {
  const filter = {
    ...(flags.state === undefined ? {} : { state: flags.state }),
    ...(flags.type === undefined ? {} : { event_type: flags.type }),
  };
  const page = await asTenant(context, flags, (client) =>
    collect(flags, (query) => client.webhooks.deliveries.list(webhookId, { ...query, ...filter }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Row>(
      [
        { title: 'ID', value: (delivery) => delivery.id },
        { title: 'MADE', value: (delivery) => moment(delivery.created_at) },
        {
          title: 'STATE',
          value: (delivery) => delivery.state,
          style: (text, { state }) => paint(deliveryColours[state], text),
        },
        { title: 'EVENT', value: (delivery) => delivery.event_type },
        { title: 'TRIED', align: 'right', value: (delivery) => String(delivery.attempts) },
        { title: 'LAST ANSWER', value: ({ last_attempt: last }) => answerOf(last) },
        { title: 'NEXT', value: (delivery) => moment(delivery.next_attempt_at) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

const deliveryColours = { waiting: 'yellow', delivered: 'green', failed: 'red' } as const;

async function showDelivery(
  context: Context,
  webhookId: string,
  wanted: string,
  flags: CommonFlags,
): Promise<void> {
  const delivery = await asTenant(context, flags, (client) =>
    client.webhooks.deliveries.read(webhookId, wanted),
  );
  if (flags.json === true) return printJson(context, delivery);
  print(context, ...deliveryLines(delivery, context.terminal));
}

async function redeliver(
  context: Context,
  webhookId: string,
  wanted: string,
  flags: CommonFlags,
): Promise<void> {
  const delivery = await asTenant(context, flags, (client) =>
    client.webhooks.deliveries.redeliver(webhookId, wanted),
  );
  if (flags.json === true) return printJson(context, delivery);
  print(context, `Delivery ${delivery.id} is on its way again.`);
}

function stateOf(webhook: Webhook): string {
  return webhook.enabled ? 'enabled' : `disabled (${webhook.disabled_reason ?? 'tenant'})`;
}

function answerOf(attempt: Row['last_attempt']): string {
  if (attempt === null) return '-';
  return attempt.status === null ? (attempt.error?.code ?? '-') : String(attempt.status);
}

function webhookLines(webhook: Webhook, terminal: Terminal): string[] {
  const facts: [string, string][] = [
    ['state', stateOf(webhook)],
    ['url', printableLine(webhook.url)],
    ['events', webhook.event_types.join(' ')],
    ['signature', webhook.signature],
    ['made', moment(webhook.created_at)],
  ];
  if (webhook.description !== '') facts.push(['description', printableLine(webhook.description)]);
  if (webhook.public_key !== null) facts.push(['public key', webhook.public_key]);
  if (webhook.previous_secret_until !== null)
    facts.push(['old secret', `signs too until ${moment(webhook.previous_secret_until)}`]);
  if (webhook.failing_since !== null) facts.push(['failing', `since ${moment(webhook.failing_since)}`]);
  return [terminal.paint('bold', webhook.id), '', ...factLines(facts, terminal)];
}

function deliveryLines(delivery: Delivery, terminal: Terminal): string[] {
  const facts: [string, string][] = [
    ['state', `${delivery.state}, ${delivery.attempts} attempts`],
    ['event', `${delivery.event_type}  ${delivery.event_id}`],
    ['made', moment(delivery.created_at)],
  ];
  if (delivery.next_attempt_at !== null) facts.push(['next', moment(delivery.next_attempt_at)]);
  const attempts = delivery.attempt_log.flatMap((attempt) => [
    `${moment(attempt.started_at)}  ${answerOf(attempt)}  ${duration(attempt.duration_ms)}`,
    ...(attempt.error === null ? [] : [`  ${printableLine(attempt.error.message)}`]),
    ...(attempt.response_excerpt ? [`  ${printableLine(attempt.response_excerpt)}`] : []),
  ]);
  return [
    terminal.paint('bold', delivery.id),
    '',
    ...factLines(facts, terminal),
    '',
    ...attempts,
    ...(attempts.length === 0 ? [] : ['']),
    printableLine(delivery.payload),
  ];
}
