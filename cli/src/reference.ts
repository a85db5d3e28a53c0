import type { Command } from 'commander';

const introduction = `# The \`stoa\` command

This page is generated from the commands themselves. Run it as \`npx stoa ...\` or \`npm run -s stoa -- ...\` in the
repository. On a shell whose Node is too old it starts the project's own.

| it needs | from |
| --- | --- |
| the tenants' address | \`--url\`, else \`STOA_URL\`, else \`credentials.json\`, else \`http://127.0.0.1:8080\` |
| the operator's address | \`--admin-url\`, else \`STOA_ADMIN_URL\`, else \`credentials.json\`, else \`http://127.0.0.1:8081\` |
| a key | \`--key\`, else \`STOA_KEY\`, else \`credentials.json\` (whose keys go to that file's addresses only) |

\`credentials.json\` is that of \`STOA_DATA_DIR\`, else of the nearest \`.stoa\` at or above the current directory, else of the
repository's. \`--json\` prints what the API answers; an error is then one line on standard error:
\`{"error":{"code","message","advice","status","param","request_id"}}\`. Colours appear on terminals only, and never with
\`NO_COLOR\`. Exit codes: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration, 130 cancelled by Ctrl-C.
`;

/** All commands as one page of Markdown. */
export function referencePage(program: Command): string {
  return [introduction, ...leaves(program).map(section)].join('\n');
}

function leaves(command: Command): Command[] {
  return command.commands
    .filter((below) => below.name() !== 'reference')
    .flatMap((below) => (below.commands.length > 0 ? leaves(below) : [below]));
}

function section(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => 100,
  });
  command.outputHelp();
  return `## ${titleOf(command)}\n\n\`\`\`text\n${text.trim()}\n\`\`\`\n`;
}

function titleOf(command: Command): string {
  return command.parent === null ? command.name() : `${titleOf(command.parent)} ${command.name()}`;
}
