import { outcomes } from '@stoa/contracts';
import type { TenantClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
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
import { CommandFailure } from '../failure.ts';
import { amount, count, duration, moment } from '../formats.ts';
import { factLines, tableLines } from '../table.ts';
import { printableLine, type Terminal } from '../terminal.ts';

type Request = Awaited<ReturnType<TenantClient['requests']['read']>>;
type Attempt = Request['attempts'][number];

interface RequestFlags extends ListFlags {
  readonly model?: string;
  readonly outcome?: Request['outcome'];
}

export function addRequestCommands(program: Command, context: Context): void {
  const requests = program
    .command('requests')
    .description('what was asked, and why it was answered as it was');
  withConnection(
    requests
      .command('show')
      .argument('[request]', 'its id, req_... (default: the newest)')
      .description('explain one request: decision, attempts, tokens, cost, trace'),
    'tenant',
  )
    .addHelpText('after', example('stoa requests show req_01jz4x5t2sfkb8m6q0v9c3d7ea', 'stoa requests show'))
    .action(async (id: string | undefined, flags: CommonFlags) => {
      const request = await asTenant(context, flags, async (client) =>
        id === undefined ? newest(client) : client.requests.read(id),
      );
      if (flags.json === true) printJson(context, request);
      else print(context, ...explanationLines(request, context.terminal));
    });
  withConnection(
    withList(requests.command('list').description('list requests that have ended, newest first'))
      .option('--model <model>', 'only those that asked for this model')
      .addOption(new Option('--outcome <outcome>', 'only those that ended so').choices(outcomes)),
    'tenant',
  )
    .addHelpText('after', example('stoa requests list --outcome failed'))
    .action((flags: RequestFlags) => list(context, flags));
}

async function newest(client: TenantClient): Promise<Request> {
  const page = await client.requests.list({ limit: 1 }).page();
  const [request] = page.data;
  if (request === undefined) {
    throw new CommandFailure({
      code: 'not_found',
      message: 'There is no request yet.',
      advice: 'Make one: stoa chat "How are tenants isolated?"',
    });
  }
  return request;
}

async function list(context: Context, flags: RequestFlags): Promise<void> {
  const filter = {
    ...(flags.model === undefined ? {} : { model: flags.model }),
    ...(flags.outcome === undefined ? {} : { outcome: flags.outcome }),
  };
  const page = await asTenant(context, flags, (client) =>
    collect(flags, (query) => client.requests.list({ ...query, ...filter }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Request>(
      [
        { title: 'ID', value: (request) => request.id },
        { title: 'AT', value: (request) => moment(request.created_at) },
        { title: 'ASKED', value: (request) => request.model },
        { title: 'TARGET', value: (request) => request.decision?.target ?? '-' },
        {
          title: 'OUTCOME',
          value: (request) => request.outcome,
          style: (text, request) => outcomeText(request, paint, text),
        },
        { title: 'IN', align: 'right', value: ({ usage }) => count(usage.input_tokens) },
        { title: 'OUT', align: 'right', value: ({ usage }) => count(usage.output_tokens) },
        { title: 'COST', align: 'right', value: (request) => amount(request.cost) },
        { title: 'TOOK', align: 'right', value: (request) => duration(tookMs(request)) },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

/** The explanation as people read it: what happened, what was chosen and why, each call, and what it used. */
function explanationLines(request: Request, terminal: Terminal): string[] {
  const { paint } = terminal;
  const error = request.error === null ? '' : `: ${request.error.message} (${request.error.code})`;
  const lines = [
    `${paint('bold', request.id)}  ${outcomeText(request, paint, request.outcome)}${printableLine(error)}`,
    '',
    ...factLines(
      [
        ['asked', askedText(request)],
        ['decided', decisionText(request)],
        ['at', `${moment(request.created_at)}, took ${duration(tookMs(request))}`],
        ['tokens', tokensText(request)],
        ['cost', moneyText(request)],
        ['key', request.key_id],
        ...optionalFacts(request),
        ['trace', request.trace_id],
      ],
      terminal,
    ),
  ];
  if (request.attempts.length > 0) lines.push('', ...attemptLines(request.attempts, terminal));
  return lines;
}

function askedText({ model, endpoint, stream }: Request): string {
  return `${printableLine(model)}  (${endpoint}${stream ? ', streamed' : ''})`;
}

function decisionText({ decision }: Request): string {
  if (decision === null) return 'nothing: it ended before';
  return `${printableLine(decision.target)}  (${decision.reason}, probability ${decision.probability})`;
}

function tokensText({ usage }: Request): string {
  const kinds = [
    [usage.cached_input_tokens, 'from the cache'],
    [usage.cache_write_tokens, 'to the cache'],
    [usage.reasoning_tokens, 'of reasoning'],
    [usage.input_audio_tokens, 'of audio in'],
    [usage.output_audio_tokens, 'of audio out'],
  ] as const;
  const parts = kinds.filter(([tokens]) => tokens > 0).map(([tokens, kind]) => `${count(tokens)} ${kind}`);
  const detail = parts.length === 0 ? '' : `  (${parts.join(', ')})`;
  const estimate = usage.estimated ? '  estimated: the provider told none' : '';
  return `${count(usage.input_tokens)} in, ${count(usage.output_tokens)} out${detail}${estimate}`;
}

function moneyText(request: Request): string {
  if (!request.priced) return 'unknown: the target has no price';
  const version = request.price_version === null ? '' : `  (prices ${request.price_version})`;
  return `${amount(request.cost)}, charged ${amount(request.charge)}${version}`;
}

function optionalFacts(request: Request): [string, string][] {
  const facts: [string, string][] = [];
  if (request.project_id !== null) facts.push(['project', printableLine(request.project_id)]);
  if (request.end_user !== null) facts.push(['end user', printableLine(request.end_user)]);
  if (request.client_request_id !== null) facts.push(['your id', printableLine(request.client_request_id)]);
  const tags = Object.entries(request.tags).map(([name, value]) => `${name}=${value}`);
  if (tags.length > 0) facts.push(['tags', printableLine(tags.join(' '))]);
  return facts;
}

function attemptLines(attempts: readonly Attempt[], terminal: Terminal): string[] {
  const { paint } = terminal;
  const numbered = attempts.map((attempt, index) => ({ ...attempt, number: index + 1 }));
  return tableLines<Attempt & { number: number }>(
    [
      { title: '#', align: 'right', value: ({ number }) => String(number) },
      { title: 'TARGET', value: ({ target }) => target },
      { title: 'PROVIDER', value: ({ provider }) => provider },
      { title: 'BEGAN', value: ({ started_at: startedAt }) => startedAt.slice(11, 23) },
      { title: 'TOOK', align: 'right', value: (attempt) => duration(attempt.duration_ms) },
      { title: 'FIRST TOKEN', align: 'right', value: (attempt) => duration(attempt.time_to_first_token_ms) },
      { title: 'STATUS', align: 'right', value: ({ status }) => String(status ?? '-') },
      {
        title: 'RESULT',
        value: ({ error }) => (error === null ? 'ok' : `${error.code}: ${error.message}`),
        style: (text, { error }) => paint(error === null ? 'green' : 'red', text),
      },
    ],
    numbered,
    terminal,
  );
}

function outcomeText({ outcome }: Request, paint: Terminal['paint'], text: string): string {
  if (outcome === 'completed') return paint('green', text);
  return paint(outcome === 'failed' ? 'red' : 'yellow', text);
}

function tookMs(request: Request): number {
  return Date.parse(request.completed_at) - Date.parse(request.created_at);
}
