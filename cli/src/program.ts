import { Command } from 'commander';
import { addModelCommands, addProviderCommands } from './commands/catalog.ts';
import { addChatCommand } from './commands/chat.ts';
import { addJobCommands } from './commands/jobs.ts';
import { addAuditCommands } from './commands/audit.ts';
import { addDeadLetterCommands } from './commands/dead-letters.ts';
import { addEventCommands } from './commands/events.ts';
import { addKeyCommands } from './commands/keys.ts';
import { addLimitCommands } from './commands/limits.ts';
import { addMemberCommands } from './commands/members.ts';
import { addRequestCommands } from './commands/requests.ts';
import { addServerCommands } from './commands/server.ts';
import { addTenantCommands } from './commands/tenants.ts';
import { addTokenCommands } from './commands/tokens.ts';
import { addUsageCommand } from './commands/usage.ts';
import { addWebhookCommands } from './commands/webhooks.ts';
import { type Context, example } from './context.ts';
import { referencePage } from './reference.ts';
import { stoaVersion } from './version.ts';

const groups = {
  server: 'Run a server:',
  operator: 'Operate it:',
  tenant: 'Use it as a tenant:',
} as const;

const surroundings = `
Where it calls: --url and --admin-url, else STOA_URL and STOA_ADMIN_URL, else what the nearest .stoa/credentials.json
says (or that of STOA_DATA_DIR). With which key: --key, else STOA_KEY, else that file's.
Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration, 130 cancelled.`;

/**
 * Every command. Nothing runs until it is parsed; a usage fault throws commander's own error after `complain` was given
 * its words.
 */
export function createProgram(context: Context, complain: (text: string) => void): Command {
  const program = new Command('stoa')
    .description('Stoa: the AI platform that one operator runs for many tenants.')
    .version(stoaVersion)
    .exitOverride()
    .configureOutput({ writeErr: complain })
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', `${surroundings}\n${example('stoa chat "How are tenants isolated?"')}`);
  program.commandsGroup(groups.server);
  addServerCommands(program, context);
  program.commandsGroup(groups.operator);
  addTenantCommands(program, context);
  addKeyCommands(program, context);
  addMemberCommands(program, context);
  addLimitCommands(program, context);
  addProviderCommands(program, context);
  addAuditCommands(program, context);
  addEventCommands(program, context);
  addDeadLetterCommands(program, context);
  addJobCommands(program, context);
  program.commandsGroup(groups.tenant);
  addChatCommand(program, context);
  addRequestCommands(program, context);
  addUsageCommand(program, context);
  addTokenCommands(program, context);
  addWebhookCommands(program, context);
  addModelCommands(program, context);
  program
    .command('reference', { hidden: true })
    .description('print the help of every command as Markdown')
    .action(() => {
      context.terminal.out.write(referencePage(program));
    });
  return program;
}
