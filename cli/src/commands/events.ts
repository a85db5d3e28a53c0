import { setTimeout as pause } from 'node:timers/promises';
import { eventTable } from '@stoa/contracts';
import { type OperatorClient, StoaError } from '@stoa/sdk';
import type { Command } from 'commander';
import {
  asOperator,
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
import { factLines } from '../table.ts';
import { printableLine } from '../terminal.ts';

interface TailFlags extends CommonFlags {
  readonly type?: string;
  readonly tenant?: string;
  readonly after?: string;
  readonly count?: number;
}

interface ReplayFlags extends CommonFlags {
  readonly tenant: string;
  readonly consumer: string;
  readonly from: string;
  readonly wait?: boolean;
}

type Replay = Awaited<ReturnType<OperatorClient['events']['readReplay']>>;

type FoundPage = Awaited<ReturnType<OperatorClient['events']['follow']>>;
type FoundEvent = FoundPage['data'][number];

/** How long the server waits for an event before it answers that there is none. */
const waitSeconds = 15;
/** Between two looks at a replay that is waited for, and two tries to reach a server that is away. */
const lookEveryMs = 1000;
const eventTypes = Object.keys(eventTable);
const passingFaults = new Set([
  'connection_failed',
  'client_timeout',
  'database_unavailable',
  'draining',
  'starting',
]);

export function addEventCommands(program: Command, context: Context): void {
  const events = program.command('events').description('what happened, as the event log tells it (operator)');
  withConnection(
    events
      .command('tail')
      .description('follow the event log live, until it is cancelled')
      .option('--type <type>', 'only this type: run.changed, or with its version')
      .option('--tenant <tenant>', 'only this tenant, ten_...')
      .option('--after <place>', 'begin behind this place of the log (default: at its end)')
      .option('--count <count>', 'end after so many events', positiveInteger),
    'operator',
  )
    .addHelpText('after', example('stoa events tail --type run.changed'))
    .action((flags: TailFlags) => tail(context, flags));
  addReplayCommands(events, context);
}

function addReplayCommands(events: Command, context: Context): void {
  withConnection(
    events
      .command('replay')
      .description("hand a tenant's events to one consumer again; their effects happen again")
      .requiredOption('--tenant <tenant>', 'whose, ten_...')
      .requiredOption('--consumer <name>', 'to which consumer; it has to be made for that')
      .requiredOption('--from <time>', 'what was told at this time or later, UTC, as far as the log reaches')
      .option('--wait', 'end when the replay is done'),
    'operator',
  )
    .addHelpText(
      'after',
      example(
        'stoa events replay --tenant ten_01h455vb4pex5vsknk084sn02q --consumer webhooks.fan-out --from 2026-11-23T00:00:00Z',
      ),
    )
    .action((flags: ReplayFlags) => replay(context, flags));
  withConnection(
    events
      .command('replay-status')
      .argument('<replay>', 'its id, rpl_...')
      .description('show how far a replay is'),
    'operator',
  )
    .addHelpText('after', example('stoa events replay-status rpl_01jz4x5t2sfkb8m6q0v9c3d7ea'))
    .action(async (id: string, flags: CommonFlags) => {
      const found = await asOperator(context, flags, (client) => client.events.readReplay(id));
      printReplay(context, flags, found);
    });
}

async function replay(context: Context, flags: ReplayFlags): Promise<void> {
  await asOperator(context, flags, async (client) => {
    let found: Replay = await client.events.replay({
      tenant_id: flags.tenant,
      consumer: flags.consumer,
      from: flags.from,
    });
    while (flags.wait === true && found.state === 'running') {
      await pause(lookEveryMs);
      found = await client.events.readReplay(found.id);
    }
    printReplay(context, flags, found);
    if (flags.json !== true && found.state === 'running')
      remark(context, `It goes on by itself; stoa events replay-status ${found.id} says how far it is.`);
  });
}

function printReplay(context: Context, flags: CommonFlags, found: Replay): void {
  if (flags.json === true) return printJson(context, found);
  const facts: [string, string][] = [
    ['state', found.state],
    ['tenant', found.tenant_id],
    ['consumer', found.consumer],
    ['from', moment(found.from)],
    ['handled', String(found.handled)],
    ['put aside', `${found.put_aside} (stoa dead-letters list)`],
    ['begun', moment(found.created_at)],
  ];
  if (found.finished_at !== null) facts.push(['done', moment(found.finished_at)]);
  print(context, context.terminal.paint('bold', found.id), '', ...factLines(facts, context.terminal));
}

/** With `--json` each event is one line of JSON. */
async function tail(context: Context, flags: TailFlags): Promise<void> {
  await asOperator(context, flags, async (client) => {
    const filter = {
      ...(flags.type === undefined ? {} : { type: flags.type }),
      ...(flags.tenant === undefined ? {} : { tenant_id: flags.tenant }),
    };
    let { after } = flags;
    let left = flags.count ?? Number.POSITIVE_INFINITY;
    if (flags.json !== true) remark(context, 'Following the event log; Ctrl-C ends it.');
    if (flags.type !== undefined && !isKnownType(flags.type))
      remark(context, `No event is known as ${flags.type}; there is ${eventTypes.join(', ')}.`);
    const followFrom = (place: string | undefined): Promise<FoundPage> =>
      client.events.follow({
        ...filter,
        limit: Math.min(100, left),
        wait_seconds: waitSeconds,
        ...(place === undefined ? {} : { after: place }),
      });
    while (left > 0) {
      const page: FoundPage = await (after === undefined
        ? followFrom(after)
        : whileServerIsAway(context, () => followFrom(after)));
      for (const event of page.data) {
        print(context, flags.json === true ? JSON.stringify(event) : eventLine(context, event));
      }
      left -= page.data.length;
      after = page.last_id ?? after;
    }
  });
}

/** With or without its version. */
function isKnownType(type: string): boolean {
  return eventTypes.some((known) => known === type || known.replace(/\.v\d+$/, '') === type);
}

/** Tries again for as long as the server is away: what it tells meanwhile lies in the log. */
async function whileServerIsAway<Result>(context: Context, call: () => Promise<Result>): Promise<Result> {
  for (let tries = 0; ; tries += 1) {
    try {
      const result = await call();
      if (tries > 0) remark(context, 'The server is back.');
      return result;
    } catch (error) {
      if (!(error instanceof StoaError) || !passingFaults.has(error.code)) throw error;
      if (tries === 0) remark(context, `${error.message} Trying again every second.`);
    }
    await pause(lookEveryMs);
  }
}

function eventLine({ terminal }: Context, event: FoundEvent): string {
  const subject = `${event.key} #${event.keyversion}`;
  const data = JSON.stringify(event.data);
  const time = event.occurred_at.slice(11, 23);
  return [
    terminal.paint('dim', time),
    terminal.paint('bold', printableLine(event.type)),
    event.tenant_id,
    printableLine(subject),
    printableLine(data.length > 200 ? `${data.slice(0, 200)}...` : data),
  ].join('  ');
}
