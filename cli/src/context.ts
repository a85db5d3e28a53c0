import {
  createOperatorClient,
  createTenantClient,
  type OperatorClient,
  type Page,
  StoaError,
  type TenantClient,
} from '@stoa/sdk';
import { type Command, InvalidArgumentError } from 'commander';
import { type Connection, type ConnectionFlags, resolveConnection, type Surroundings } from './connection.ts';
import { failureOfCall } from './failure.ts';
import type { Terminal } from './terminal.ts';

/** What every command is given: where it runs, and what it writes to. */
export interface Context {
  readonly surroundings: Surroundings;
  readonly terminal: Terminal;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
}

export interface CommonFlags extends ConnectionFlags {
  readonly json?: boolean;
}

export interface ListFlags extends CommonFlags {
  readonly limit: number;
  readonly all?: boolean;
  readonly after?: string;
}

/** The flags of a command that speaks to a server. `kinds` says with whose address. */
export function withConnection(command: Command, ...kinds: readonly Connection['kind'][]): Command {
  if (kinds.includes('tenant')) command.option('--url <url>', "the tenants' address (default: STOA_URL)");
  if (kinds.includes('operator'))
    command.option('--admin-url <url>', "the operator's address (default: STOA_ADMIN_URL)");
  return command
    .option('--key <key>', 'the key to call with (default: STOA_KEY)')
    .option('--json', "print the API's JSON; errors too, as one line on standard error");
}

export function withList(command: Command): Command {
  return command
    .option('--limit <count>', 'how many to show', positiveInteger, 20)
    .option('--all', 'show all')
    .option('--after <id>', 'go on after this one');
}

export function positiveInteger(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1 on.');
  return Number(text);
}

/** Calls as a tenant; what fails is said with where the address and key came from. */
export async function asTenant<Result>(
  context: Context,
  flags: ConnectionFlags,
  use: (client: TenantClient) => Promise<Result>,
): Promise<Result> {
  const connection = resolveConnection('tenant', flags, context.surroundings);
  return explained(connection, async () =>
    use(createTenantClient({ baseUrl: connection.url.value, apiKey: connection.key.value })),
  );
}

export async function asOperator<Result>(
  context: Context,
  flags: ConnectionFlags,
  use: (client: OperatorClient) => Promise<Result>,
): Promise<Result> {
  const connection = resolveConnection('operator', flags, context.surroundings);
  return explained(connection, async () =>
    use(createOperatorClient({ adminUrl: connection.url.value, operatorKey: connection.key.value })),
  );
}

async function explained<Result>(connection: Connection, use: () => Promise<Result>): Promise<Result> {
  try {
    return await use();
  } catch (error) {
    throw error instanceof StoaError ? failureOfCall(error, connection) : error;
  }
}

/** As many entries as the flags ask for, as one page of the API's form; `after` of the next is its `last_id`. */
export async function collect<OnePage extends Page<unknown>>(
  flags: ListFlags,
  fetchPage: (query: { readonly limit: number; readonly after?: string }) => Promise<OnePage>,
): Promise<Page<OnePage['data'][number]>> {
  const data: OnePage['data'][number][] = [];
  let after = flags.after;
  let left = flags.all === true ? Number.POSITIVE_INFINITY : flags.limit;
  let firstId: string | null = null;
  for (;;) {
    const page = await fetchPage({ limit: Math.min(100, left), ...(after === undefined ? {} : { after }) });
    data.push(...page.data);
    firstId ??= page.first_id;
    left -= page.data.length;
    const isOver = !page.has_more || page.last_id === null || page.last_id === after || left <= 0;
    after = page.last_id ?? after;
    if (isOver) {
      return { object: 'list', data, has_more: page.has_more, first_id: firstId, last_id: after ?? null };
    }
  }
}

/** Writes lines to standard output. */
export function print({ terminal }: Context, ...lines: readonly string[]): void {
  terminal.out.write(`${lines.join('\n')}\n`);
}

/** Writes lines that are not the result itself to standard error. */
export function remark({ terminal }: Context, ...lines: readonly string[]): void {
  terminal.errors.write(`${lines.map((line) => terminal.paintErrors('dim', line)).join('\n')}\n`);
}

/** One JSON value: indented for a person's terminal, in one line for a program. */
export function printJson({ terminal }: Context, value: unknown): void {
  const isForPeople = terminal.out.isTTY === true;
  terminal.out.write(`${JSON.stringify(value, null, isForPeople ? 2 : 0)}\n`);
}

/** Says that there is more than was shown. */
export function remarkMore(context: Context, page: Page<unknown>): void {
  if (page.has_more && page.last_id !== null)
    remark(context, `There are more: --all, or --after ${page.last_id}`);
}

/** Help that ends in an example. */
export function example(...commands: readonly string[]): string {
  return `\n${commands.length === 1 ? 'Example' : 'Examples'}:\n${commands.map((line) => `  $ ${line}`).join('\n')}`;
}
