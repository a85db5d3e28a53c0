import { parseArgs } from 'node:util';
import { join } from 'node:path';
import { addressFault } from '#http';
import { AppError } from '#kernel';
import { applyCommand } from './apply-command.ts';
import { printBanner } from './banner.ts';
import { configurationExitCode, loadSettings, type LoadedSettings, processEnvironment } from './config.ts';
import { printConfig } from './config-print.ts';
import { databaseCommand } from './database-commands.ts';
import { resolveRoles } from './roles.ts';
import { serve } from './serve.ts';
import { loadStoaFile } from './stoa-file.ts';

/** The repository's root: `.stoa` and `stoa.yaml` lie here by default. */
const rootDirectory = join(import.meta.dirname, '..', '..', '..');

const help = `Stoa: the AI platform that one operator runs for many tenants.

  up                          run every role in this process (what npm start does)
  serve <role>...             run chosen roles: gateway, control, all
  db setup --admin-url URL    make the database logins and write their URLs to a file; existing ones get new passwords
  db migrate [--contract]     bring the schema up to this version; --contract: also take away what older ones used
  db status                   show what has applied, what is pending, and which processes that waits for
  db after-restore            set the event log's positions right in a database that was restored; --dry-run
  db operator-key             make an operator key
  apply                       make the entries of stoa.yaml the ones in effect
  config print [--origins]    show every setting, secrets redacted
  config check                report every fault of the configuration, and stop

Settings come from the environment; see docs/reference/config.md.
Example: STOA_OPENAI_BASE_URL=http://127.0.0.1:11434/v1 stoa up
`;

/** Runs one command of the server's own. Faults are printed as people read them; the exit code is 78 for configuration. */
export async function runCommand(args: readonly string[]): Promise<void> {
  const [command = 'up', ...rest] = args;
  try {
    await dispatch(command, rest);
  } catch (error) {
    process.exit(report(error));
  }
}

async function dispatch(command: string, rest: readonly string[]): Promise<void> {
  switch (command) {
    case 'up':
      return run([], load());
    case 'serve':
      return run(rest, load());
    case 'db':
      return databaseCommand(rest, load);
    case 'apply':
      return applyCommand(rest, load());
    case 'config':
      return configCommand(rest);
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(help);
      return undefined;
    default:
      throw new AppError('invalid_configuration', `There is no command ${command}.\n\n${help}`);
  }
}

function load(): LoadedSettings {
  return loadSettings(processEnvironment(), { rootDirectory });
}

function configCommand(args: readonly string[]): void {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { origins: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
  });
  const loaded = load();
  for (const warning of loaded.warnings) process.stderr.write(`${warning}\n`);
  if (positionals[0] === 'check') {
    loadStoaFile(loaded.settings);
    process.stdout.write(values.json ? '{"valid":true}\n' : 'The configuration is valid.\n');
    return;
  }
  if (positionals[0] !== 'print')
    throw new AppError('invalid_configuration', 'Say `config print` or `config check`.');
  process.stdout.write(printConfig(loaded, { origins: values.origins, json: values.json }));
}

async function run(roleNames: readonly string[], loaded: LoadedSettings): Promise<void> {
  const roles = resolveRoles(roleNames);
  // A file with faults stops the start here, before anything is opened or changed.
  if (roles.has('control')) loadStoaFile(loaded.settings);
  const running = await serve(loaded, roles, rootDirectory);
  if (running.isServing) printBanner(running, loaded.settings, roles);
  const stop = (signal: NodeJS.Signals): void => {
    running.stop(signal).then(
      () => process.exit(0),
      (error: unknown) => process.exit(report(error)),
    );
  };
  // The handlers stay: a repeated signal must not cut the drain short.
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

/** Prints a fault for a person and returns the exit code. */
function report(error: unknown): number {
  if (error instanceof AppError) {
    process.stderr.write(`stoa: ${error.publicMessage}\n`);
    if (error.code === 'internal_error' && error.cause instanceof Error)
      process.stderr.write(`${error.cause.stack ?? ''}\n`);
    return error.code === 'invalid_configuration' ? configurationExitCode : 1;
  }
  const address = lostAddress(error);
  if (address !== null) {
    process.stderr.write(`stoa: ${address}\n`);
    return 1;
  }
  if (isWrongUsage(error)) {
    process.stderr.write(`stoa: ${error.message}\nSee \`stoa help\`.\n`);
    return configurationExitCode;
  }
  process.stderr.write(`stoa: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 1;
}

/** Whether `parseArgs` refused the words of a command. */
function isWrongUsage(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS_');
}

/** A listener that another process took between the check and the start; null for any other error. */
function lostAddress(error: unknown): string | null {
  const fault = addressFault(error);
  if (fault === null || !(error instanceof Error) || !('address' in error) || !('port' in error)) return null;
  return `${String(error.address)}:${String(error.port)} ${fault}; choose other addresses with STOA_LISTEN and STOA_ADMIN_LISTEN.`;
}
