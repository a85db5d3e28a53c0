import type { TenantClient } from '@stoa/sdk';
import type { Command } from 'commander';
import {
  asTenant,
  type CommonFlags,
  type Context,
  example,
  positiveInteger,
  printJson,
  remark,
  withConnection,
} from '../context.ts';
import { CommandFailure, exitCodes, usageFailure } from '../failure.ts';
import { readAll } from '../input.ts';
import { printable } from '../terminal.ts';

interface ChatFlags extends CommonFlags {
  readonly model: string;
  readonly system?: string;
  readonly maxTokens?: number;
}

type Body = Parameters<TenantClient['chat']['stream']>[0];

/** How long a cancelled call may take to end before the process goes. */
const cancelGraceMs = 2_000;

export function addChatCommand(program: Command, context: Context): void {
  withConnection(
    program
      .command('chat')
      .argument('[text]', 'what to ask (default: standard input)')
      .description('ask a model; the answer streams to the terminal')
      .option('--model <model>', 'the id of a model, or auto', 'auto')
      .option('--system <text>', 'a system message before the text')
      .option('--max-tokens <count>', 'at most so many output tokens', positiveInteger),
    'tenant',
  )
    .addHelpText(
      'after',
      example(
        'stoa chat "How are tenants isolated?"',
        'git diff | stoa chat --system "Review this change" --model gpt-4o-mini',
      ),
    )
    .action((text: string | undefined, flags: ChatFlags) => chat(context, text, flags));
}

async function chat(context: Context, text: string | undefined, flags: ChatFlags): Promise<void> {
  const body = bodyOf(await question(context, text), flags);
  await untilInterrupted(async (signal) =>
    asTenant(context, flags, async (client) =>
      flags.json === true
        ? answerWhole(context, client, body, signal)
        : answerStreamed(context, client, body, signal),
    ),
  );
}

async function question(context: Context, text: string | undefined): Promise<string> {
  if (text === undefined && context.stdin.isTTY === true) remark(context, 'Write your text; Ctrl-D ends it.');
  const content = text ?? (await readAll(context.stdin));
  if (content.trim() === '')
    throw usageFailure('There is no text to send.', 'Example: stoa chat "How are tenants isolated?"');
  return content;
}

function bodyOf(content: string, flags: ChatFlags): Body {
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return {
    model: flags.model,
    messages: [...system, { role: 'user', content }],
    ...(flags.maxTokens === undefined ? {} : { max_tokens: flags.maxTokens }),
  };
}

/** The completion goes to standard output as the API gave it, the names of its headers to standard error. */
async function answerWhole(
  context: Context,
  client: TenantClient,
  body: Body,
  signal: AbortSignal,
): Promise<void> {
  const {
    body: completion,
    requestId,
    target,
  } = await client.chat.create({ ...body, stream: false }, { signal });
  printJson(context, completion);
  context.terminal.errors.write(`${JSON.stringify({ request_id: requestId, target })}\n`);
}

async function answerStreamed(
  context: Context,
  client: TenantClient,
  body: Body,
  signal: AbortSignal,
): Promise<void> {
  const { out } = context.terminal;
  const isForPeople = out.isTTY === true;
  const stream = await client.chat.stream(body, { signal });
  let last = '\n';
  try {
    for await (const text of stream.text()) {
      out.write(isForPeople ? printable(text) : text);
      last = text;
    }
  } finally {
    if (!last.endsWith('\n')) out.write('\n');
  }
  remark(context, [stream.target, stream.requestId].filter((name) => name !== null).join(' · '));
}

/** Ctrl-C cancels the call, which the server then bills for what was delivered, and ends the command with 130. */
async function untilInterrupted(run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const interrupt = (): void => {
    controller.abort();
    setTimeout(() => process.exit(exitCodes.interrupted), cancelGraceMs).unref();
  };
  // It stays while the command runs: a launcher and a terminal may each send their own.
  process.on('SIGINT', interrupt);
  try {
    await run(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    throw new CommandFailure({
      code: 'interrupted',
      message: 'Cancelled.',
      exitCode: exitCodes.interrupted,
      cause: error,
    });
  } finally {
    if (!controller.signal.aborted) process.off('SIGINT', interrupt);
  }
}
