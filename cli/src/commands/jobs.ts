import { jobRunStates } from '@stoa/contracts';
import type { OperatorClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
  asOperator,
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
import { CommandFailure } from '../failure.ts';
import { count, moment } from '../formats.ts';
import { factLines, tableLines } from '../table.ts';
import { printableLine, type Terminal } from '../terminal.ts';

type Jobs = OperatorClient['jobs'];
type Job = Awaited<ReturnType<ReturnType<Jobs['list']>['page']>>['data'][number];
type Run = Awaited<ReturnType<Jobs['run']>>;

interface RunsFlags extends ListFlags {
  readonly state?: Run['state'];
  readonly tenant?: string;
}

interface RunFlags extends CommonFlags {
  readonly tenant?: string;
  readonly data?: string;
}

export function addJobCommands(program: Command, context: Context): void {
  const jobs = program.command('jobs').description('work in the background (operator)');
  withConnection(
    withList(jobs.command('list').description('list jobs with what waits, runs and has failed')),
    'operator',
  )
    .addHelpText('after', example('stoa jobs list'))
    .action((flags: ListFlags) => list(context, flags));
  withConnection(
    withList(
      jobs.command('runs').argument('<job>', 'its name').description('list the runs of a job, newest first'),
    )
      .addOption(new Option('--state <state>', 'only those in this state').choices(jobRunStates))
      .option('--tenant <tenant>', 'only those of this tenant, ten_...'),
    'operator',
  )
    .addHelpText('after', example('stoa jobs runs tenant-purge --state failed'))
    .action((job: string, flags: RunsFlags) => listRuns(context, job, flags));
  withConnection(
    jobs
      .command('run')
      .argument('<job>', 'its name')
      .description('enqueue a run of a job now')
      .option('--tenant <tenant>', 'whose run it is, ten_... (jobs of tenants only)')
      .option('--data <json>', 'what the job needs to know, as a JSON object'),
    'operator',
  )
    .addHelpText('after', example('stoa jobs run tenant-purge'))
    .action((job: string, flags: RunFlags) => run(context, job, flags));
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.jobs.list(query).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Job>(
      [
        { title: 'JOB', value: (job) => job.name },
        { title: 'FOR', value: (job) => (job.scope === 'tenant' ? 'tenants' : 'the platform') },
        { title: 'SCHEDULE', value: (job) => job.schedule ?? '-' },
        { title: 'WAITING', align: 'right', value: (job) => count(job.waiting) },
        { title: 'RUNNING', align: 'right', value: (job) => count(job.running) },
        {
          title: 'FAILED',
          align: 'right',
          value: (job) => count(job.failed),
          style: (text, job) => (job.failed > 0 ? paint('red', text) : text),
        },
        { title: 'LAST RUN', value: (job) => lastRunText(job) },
        { title: 'NEXT RUN', value: (job) => (job.next_run === null ? '-' : moment(job.next_run)) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

function lastRunText({ last_run: last }: Job): string {
  return last === null ? '-' : `${moment(last.finished_at)} ${last.outcome}`;
}

async function listRuns(context: Context, job: string, flags: RunsFlags): Promise<void> {
  const filter = {
    ...(flags.state === undefined ? {} : { state: flags.state }),
    ...(flags.tenant === undefined ? {} : { tenant_id: flags.tenant }),
  };
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.jobs.runs(job, { ...query, ...filter }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Run>(
      [
        { title: 'ID', value: (found) => found.id },
        { title: 'TENANT', value: (found) => found.tenant_id ?? '-' },
        {
          title: 'STATE',
          value: (found) => found.state,
          style: (text, found) => stateText(found, paint, text),
        },
        { title: 'ATTEMPTS', align: 'right', value: (found) => count(found.attempts) },
        { title: 'CREATED', value: (found) => moment(found.created_at) },
        { title: 'ENDED', value: (found) => (found.finished_at === null ? '-' : moment(found.finished_at)) },
        { title: 'SAYS', value: (found) => saidBy(found) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

async function run(context: Context, job: string, flags: RunFlags): Promise<void> {
  const body = {
    ...(flags.tenant === undefined ? {} : { tenant_id: flags.tenant }),
    ...(flags.data === undefined ? {} : { data: objectIn(flags.data) }),
  };
  const enqueued = await asOperator(context, flags, (client) => client.jobs.run(job, body));
  if (flags.json === true) return printJson(context, enqueued);
  print(
    context,
    ...factLines(
      [
        ['id', enqueued.id],
        ['job', enqueued.job],
        ['state', enqueued.state],
        ['created', moment(enqueued.created_at)],
      ],
      context.terminal,
    ),
  );
  remark(context, '', `What became of it: stoa jobs runs ${enqueued.job}`);
}

function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Said below, for both.
  }
  throw new CommandFailure({
    code: 'invalid_argument',
    message: '--data is no JSON object.',
    advice: `Quote it for your shell: --data '{"row":"..."}'`,
  });
}

function saidBy({ error, progress }: Run): string {
  if (error !== null) return printableLine(`${error.code}: ${error.message}`);
  if (progress === null) return '';
  return printableLine(`${Math.round(progress.value * 100)} % ${progress.note ?? ''}`.trim());
}

function stateText({ state }: Run, paint: Terminal['paint'], text: string): string {
  if (state === 'completed') return paint('green', text);
  return state === 'failed' ? paint('red', text) : text;
}
