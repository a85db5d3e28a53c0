import { join } from 'node:path';
import { type Command, CommanderError } from 'commander';
import type { Context } from './context.ts';
import { CommandFailure, failureJson, usageFailure } from './failure.ts';
import { createProgram } from './program.ts';
import { createTerminal, printable } from './terminal.ts';

/** Runs one command line and returns the exit code; what failed was said on standard error. */
export async function runStoa(args: readonly string[]): Promise<number> {
  endQuietlyWithReader();
  const context: Context = {
    surroundings: {
      env: process.env,
      directory: process.cwd(),
      rootDirectory: join(import.meta.dirname, '..', '..'),
    },
    terminal: createTerminal(process.stdout, process.stderr, process.env),
    stdin: process.stdin,
  };
  let complaint = '';
  const program = createProgram(context, (text) => {
    complaint += text;
  });
  try {
    await program.parseAsync([...args], { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommandFailure) return report(error, args, context);
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : report(usageFault(complaint, error.code, args, program), args, context);
  }
}

/** Commander's own words, and what to do. The name of a group alone gets the group's help. */
function usageFault(
  complaint: string,
  code: string,
  args: readonly string[],
  program: Command,
): CommandFailure {
  if (code === 'commander.help') return usageFailure('The command is not complete.', complaint.trim());
  const [words = '', suggestion = ''] = complaint
    .trim()
    .replace(/^error: /, '')
    .split('\n');
  const hint = suggestion.replace(/^\((.*)\)$/, ' $1');
  const isEarlyOption = args[0]?.startsWith('-') === true && args.some((word) => !word.startsWith('-'));
  return usageFailure(
    `${words.charAt(0).toUpperCase()}${words.slice(1).replace(/\.$/, '')}.${hint}`,
    isEarlyOption
      ? 'Options come after the command: stoa tenants list --json'
      : `See stoa ${[...commandWords(program, args), '--help'].join(' ')}`,
  );
}

/** The leading words of a command line that name a group and a command. */
function commandWords(command: Command, [word, ...rest]: readonly string[]): string[] {
  const below = command.commands.find((one) => one.name() === word);
  return below === undefined ? [] : [below.name(), ...commandWords(below, rest)];
}

function report(failure: CommandFailure, args: readonly string[], { terminal }: Context): number {
  const { errors, paintErrors } = terminal;
  if (isJsonWanted(args)) {
    errors.write(`${failureJson(failure)}\n`);
    return failure.exitCode;
  }
  errors.write(`${paintErrors('red', 'stoa:')} ${printable(failure.message)}\n`);
  if (failure.advice !== null) errors.write(`${printable(failure.advice)}\n`);
  if (failure.requestId !== null) errors.write(`${paintErrors('dim', failure.requestId)}\n`);
  return failure.exitCode;
}

/** Told by the words themselves, since a usage fault is found before the options are read. */
function isJsonWanted(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end === -1 ? args : args.slice(0, end)).includes('--json');
}

/** `stoa ... | head` closes its end early: that is no failure. */
function endQuietlyWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
}
