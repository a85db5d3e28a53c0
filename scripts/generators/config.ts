import {
  defaultText,
  expectation,
  foreignNames,
  type SettingDeclaration,
  settingSections,
  settingTable,
} from '@stoa/contracts';

/** The reference of all settings, from their one declaration. */
export const configReference = {
  path: 'docs/reference/config.md',
  produce: (): Promise<string> => Promise.resolve(page()),
};

const introduction = `# Settings

This page is generated from \`contracts/src/settings.ts\`.

A setting is read from the environment variable of its name, else from the file that \`NAME_FILE\` names (trailing line
ends are not part of the value), else it has its default. Setting both is a fault; an empty variable is an unset one.
All faults are reported together at start, and the process ends with exit code 78. \`stoa config print --origins\` shows
what is in effect and where it came from, without secrets.

A name that begins with \`STOA_\` and is unknown gives a warning with the nearest known one. What Kubernetes puts into the
environment for Services (\`STOA_PORT\`, \`STOA_SERVICE_HOST\`, \`STOA_..._TCP_...\`) is ignored. Traces are set up by
OpenTelemetry's own \`OTEL_...\` variables.
`;

const productionRules = `## What the production profile refuses

- No \`STOA_DATABASE_URL\` (the embedded database), or fewer than four logins, or two doors under one login.
- A \`STOA_MASTER_KEY\` that is missing, a \`STOA_CLUSTER_SECRET\` that is not 32 random bytes or more as base64 or hex, a
  database password that is in every tutorial. Development refuses a \`STOA_MASTER_KEY\` that is not random, too, and a
  \`STOA_CLUSTER_SECRET\` that is shorter than 32 characters or a pattern.
- \`STOA_SCRIPTED_FILE\` and \`STOA_DEMO_TENANT=true\`.
`;

function page(): string {
  const sections = settingSections.map(({ id, title }) => {
    const rows = settingTable.filter((declaration) => declaration.section === id).map(row);
    return `## ${title}\n\n| name | value | default | what it does |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  const foreign = [...foreignNames].map(([name, sentence]) => `| \`${name}\` | ${sentence} |`);
  const others = `## Names that are no settings of the server\n\n| name | what it is |\n| --- | --- |\n${foreign.join('\n')}\n`;
  return [introduction, ...sections, productionRules, others].join('\n');
}

function row(declaration: SettingDeclaration): string {
  const marks = [
    declaration.isSecret === true ? 'Secret.' : '',
    declaration.isRequiredInProduction === true ? 'Required in production.' : '',
    declaration.isReserved === true ? 'Not used by this version yet.' : '',
  ].filter((mark) => mark !== '');
  const text = [declaration.sentence, ...marks].join(' ');
  return `| \`${declaration.name}\` | ${expectation(declaration)} | ${shownDefault(declaration)} | ${text} |`;
}

function shownDefault(declaration: SettingDeclaration): string {
  const development = defaultText(declaration, 'development');
  const production = defaultText(declaration, 'production');
  if (development === production) return development === null ? 'unset' : `\`${development}\``;
  return `development \`${development ?? 'unset'}\`, production \`${production ?? 'unset'}\``;
}
