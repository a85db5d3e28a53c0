import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { operatorRoles } from '@stoa/contracts';
import { type Command, Option } from 'commander';
import { type Context, example } from '../context.ts';
import { CommandFailure, exitCodes } from '../failure.ts';

/**
 * The commands that are the server's own: `up`, `serve`, `db`, `apply`, `config`. Each starts server/src/main.ts with
 * the same words; the terminal, the exit code and signals are passed on. They take their settings from the environment.
 */
const serverFile = join(import.meta.dirname, '..', '..', '..', 'server', 'src', 'main.ts');

/** As in the start script: V8's own choice, twice this, costs a hundred megabytes and saves no time. */
const nodeFlags = ['--max-semi-space-size=16'];

const passedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** How much of the server's last words becomes the message of an error, in characters. */
const keptErrorLength = 16_384;

const json = ['--json', 'print JSON; errors too, as one line on standard error'] as const;

interface ServerFlags {
  readonly json?: boolean;
}

export function addServerCommands(program: Command, context: Context): void {
  program
    .command('up')
    .description('run every role in this process, as npm start does')
    .option('--json', 'print the log lines only; an error as one JSON line on standard error')
    .addHelpText('after', example('stoa up', 'STOA_OPENAI_BASE_URL=http://127.0.0.1:11434/v1 stoa up'))
    .action((flags: ServerFlags) => runServer(context, ['up'], flags, 'lines'));
  program
    .command('serve')
    .argument('<role...>', 'gateway, control or all')
    .description('run chosen roles in this process')
    .option('--json', 'print the log lines only; an error as one JSON line on standard error')
    .addHelpText('after', example('stoa serve gateway'))
    .action((roles: string[], flags: ServerFlags) => runServer(context, ['serve', ...roles], flags, 'lines'));
  addDatabaseCommands(program, context);
  program
    .command('apply')
    .description('make the entries of stoa.yaml the ones in effect, on the database of the settings')
    .option(...json)
    .addHelpText('after', example('STOA_CONFIG=./stoa.yaml stoa apply'))
    .action((flags: ServerFlags) => runServer(context, ['apply'], flags));
  const config = program.command('config').description('the settings of the server, from the environment');
  config
    .command('print')
    .description('show every setting in effect, secrets redacted')
    .option('--origins', 'say where each value came from')
    .option(...json)
    .addHelpText('after', example('stoa config print --origins'))
    .action((flags: ServerFlags & { origins?: boolean }) =>
      runServer(context, ['config', 'print', ...(flags.origins === true ? ['--origins'] : [])], flags),
    );
  config
    .command('check')
    .description('report every fault of the settings, and stop')
    .option(...json)
    .addHelpText('after', example('STOA_PROFILE=production stoa config check'))
    .action((flags: ServerFlags) => runServer(context, ['config', 'check'], flags));
}

function addDatabaseCommands(program: Command, context: Context): void {
  const db = program.command('db').description("the server's database");
  db.command('setup')
    .description(
      'make the database logins and write their URLs to a file; logins that exist get new passwords, for every database of the server',
    )
    .requiredOption('--admin-url <url>', 'a login that may create roles')
    .option('--database <name>', 'the database to set up (default: that of the URL)')
    .option('--output <file>', 'where the URLs go (default: database-urls.env)')
    .option(...json)
    .addHelpText('after', example('stoa db setup --admin-url postgres://admin@db.example:5432/stoa'))
    .action((flags: ServerFlags & { adminUrl: string; database?: string; output?: string }) =>
      runServer(
        context,
        [
          'db',
          'setup',
          '--admin-url',
          flags.adminUrl,
          ...(flags.database === undefined ? [] : ['--database', flags.database]),
          ...(flags.output === undefined ? [] : ['--output', flags.output]),
        ],
        flags,
      ),
    );
  db.command('migrate')
    .description('bring the schema up to this version, while processes of the version before serve')
    .option('--contract', 'also take away what only older versions use; refused while one of them runs')
    .option(...json)
    .addHelpText('after', example('stoa db migrate', 'stoa db migrate --contract'))
    .action((flags: ServerFlags & { contract?: boolean }) =>
      runServer(context, ['db', 'migrate', ...(flags.contract === true ? ['--contract'] : [])], flags),
    );
  db.command('status')
    .description(
      'show which migrations have applied, which are pending, and the processes that they wait for',
    )
    .option(...json)
    .addHelpText('after', example('stoa db status'))
    .action((flags: ServerFlags) => runServer(context, ['db', 'status'], flags));
  db.command('after-restore')
    .description(
      "set the event log's positions right in a database that was restored, while no process runs on it",
    )
    .option('--dry-run', 'only say what would change')
    .option(...json)
    .addHelpText('after', example('stoa db after-restore --dry-run', 'stoa db after-restore'))
    .action((flags: ServerFlags & { dryRun?: boolean }) =>
      runServer(context, ['db', 'after-restore', ...(flags.dryRun === true ? ['--dry-run'] : [])], flags),
    );
  addOperatorKeyCommand(db, context);
}

function addOperatorKeyCommand(db: Command, context: Context): void {
  db.command('operator-key')
    .description("make an operator's key and show it, this once")
    .option('--name <name>', 'what people know it by (default: operator)')
    .addOption(
      new Option('--role <role>', 'operator-readonly may change nothing (default: operator)').choices(
        operatorRoles,
      ),
    )
    .option(...json)
    .addHelpText('after', example('stoa db operator-key --name "Ada" --role operator-readonly'))
    .action((flags: ServerFlags & { name?: string; role?: string }) =>
      runServer(
        context,
        [
          'db',
          'operator-key',
          ...(flags.name === undefined ? [] : ['--name', flags.name]),
          ...(flags.role === undefined ? [] : ['--role', flags.role]),
        ],
        flags,
      ),
    );
}

/**
 * Runs the server with these words and ends with its exit code. With `--json` its last words on standard error become
 * one JSON line where it fails; `lines` keeps only the JSON lines of its standard output.
 */
async function runServer(
  context: Context,
  words: readonly string[],
  flags: ServerFlags,
  output: 'whole' | 'lines' = 'whole',
): Promise<void> {
  const isJson = flags.json === true;
  const passed = isJson && output === 'whole' ? [...words, '--json'] : words;
  const child = spawn(process.execPath, [...nodeFlags, serverFile, ...passed], {
    stdio: ['inherit', isJson && output === 'lines' ? 'pipe' : 'inherit', isJson ? 'pipe' : 'inherit'],
  });
  const pass = (signal: NodeJS.Signals): void => {
    child.kill(signal);
  };
  for (const signal of passedSignals) process.on(signal, pass);
  let errors = '';
  child.stderr?.on('data', (part: Buffer) => {
    errors = (errors + part.toString()).slice(-keptErrorLength);
  });
  if (child.stdout !== null) {
    createInterface(child.stdout).on('line', (line) => {
      if (line.startsWith('{')) context.terminal.out.write(`${line}\n`);
    });
  }
  try {
    // `close` comes after the last of its output.
    await once(child, 'close');
  } finally {
    for (const signal of passedSignals) process.off(signal, pass);
  }
  endAs(child.exitCode ?? signalCode(child.signalCode), isJson, errors.trim(), context);
}

function endAs(exitCode: number, isJson: boolean, errors: string, context: Context): void {
  if (!isJson) {
    process.exitCode = exitCode;
    return;
  }
  if (exitCode === 0) {
    if (errors !== '') context.terminal.errors.write(`${errors}\n`);
    return;
  }
  throw new CommandFailure({
    code: exitCode === exitCodes.configuration ? 'invalid_configuration' : 'failed',
    message: errors.replace(/^stoa: /, '') || `The server ended with ${exitCode}.`,
    exitCode,
  });
}

function signalCode(signal: NodeJS.Signals | null): number {
  return 128 + (signal === null ? 0 : constants.signals[signal]);
}
