import type { OperatorClient } from '@stoa/sdk';
import type { Command } from 'commander';
import {
  asOperator,
  type CommonFlags,
  type Context,
  example,
  positiveInteger,
  print,
  remark,
  withConnection,
} from '../context.ts';
import { printableLine } from '../terminal.ts';

interface TailFlags extends CommonFlags {
  readonly type?: string;
  readonly tenant?: string;
  readonly after?: string;
  readonly count?: number;
}

type FoundEvent = Awaited<ReturnType<OperatorClient['events']['follow']>>['data'][number];

/** How long the server waits for an event before it answers that there is none. */
const waitSeconds = 15;

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
    while (left > 0) {
      const page = await client.events.follow({
        ...filter,
        limit: Math.min(100, left),
        wait_seconds: waitSeconds,
        ...(after === undefined ? {} : { after }),
      });
      for (const event of page.data) {
        print(context, flags.json === true ? JSON.stringify(event) : eventLine(context, event));
      }
      left -= page.data.length;
      after = page.last_id ?? after;
    }
  });
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
