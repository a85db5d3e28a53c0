import { randomBytes } from 'node:crypto';
import { access, constants } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type OperatorRole, operatorRoles } from '@stoa/contracts';
import { createAccess } from '#access';
import { type Database, lockDataDirectory, setUpRoles, writeUrlsFile } from '#db';
import { AppError, createSealer, type Logger, systemClock } from '#kernel';
import { createTelemetry, type Telemetry } from '#telemetry';
import type { LoadedSettings } from './config.ts';
import { type DataDirectory, openDataDirectory } from './data-directory.ts';
import { openConfiguredDatabase, prepareSchema } from './database.ts';
import { afterRestoreCommand, migrateCommand, statusCommand } from './schema-commands.ts';
import { migrationSets } from './migrations.ts';
import { stoaVersion } from './version.ts';

/** `db setup`, `db migrate`, `db status`, `db after-restore`, `db operator-key`; each with `--json`. `load` reads the settings, which `setup` does not need. */
export async function databaseCommand(args: readonly string[], load: () => LoadedSettings): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      'admin-url': { type: 'string' },
      database: { type: 'string' },
      output: { type: 'string', default: 'database-urls.env' },
      name: { type: 'string', default: 'operator' },
      contract: { type: 'boolean', default: false },
      'dry-run': { type: 'boolean', default: false },
      role: { type: 'string', default: 'operator' },
      json: { type: 'boolean', default: false },
    },
  });
  const say = (value: object, text: string): void => {
    process.stdout.write(values.json ? `${JSON.stringify(value)}\n` : `${text}\n`);
  };
  switch (positionals[0]) {
    case 'setup':
      return setUp(values['admin-url'], values.database, resolve(values.output), say);
    case 'migrate':
      return withDatabase(load(), (db) =>
        migrateCommand(db, migrationSets, { contract: values.contract, say, warn: sayError }),
      );
    case 'status':
      return withDatabase(load(), (db) => statusCommand(db, migrationSets, say));
    case 'after-restore': {
      const loaded = load();
      const { natsUrl, natsStream } = loaded.settings;
      return withServedSchema(loaded, (db) =>
        afterRestoreCommand(db, migrationSets, {
          dryRun: values['dry-run'],
          stream: natsUrl === null ? null : natsStream,
          say,
        }),
      );
    }
    case 'operator-key': {
      const role = operatorRoles.find((known) => known === values.role);
      if (role === undefined) {
        throw new AppError(
          'invalid_configuration',
          `--role is one of ${operatorRoles.join(', ')}; there is no role ${values.role}.`,
        );
      }
      return withServedSchema(load(), async (db) => {
        const key = await createOperatorKey(db, values.name, role);
        say({ operator_key: key }, `${key}\nThis key is shown once; it is stored as a hash only.`);
      });
    }
    default:
      throw new AppError(
        'invalid_configuration',
        'Say `db setup --admin-url URL [--database NAME] [--output FILE]`, `db migrate [--contract]`, `db status`, `db after-restore [--dry-run]` or `db operator-key [--name NAME] [--role operator|operator-readonly]`.',
      );
  }
}

async function setUp(
  adminUrl: string | undefined,
  database: string | undefined,
  output: string,
  say: (value: object, text: string) => void,
): Promise<void> {
  if (adminUrl === undefined) {
    throw new AppError(
      'invalid_configuration',
      'Give a login that may create roles: db setup --admin-url postgres://admin@db.example:5432/stoa',
    );
  }
  if (!/^postgres(ql)?:\/\//.test(adminUrl) || !URL.canParse(adminUrl)) {
    throw new AppError(
      'invalid_configuration',
      '--admin-url is no URL of a PostgreSQL database; expected one such as postgres://admin@db.example:5432/stoa.',
    );
  }
  // Before the logins get new passwords, which only this file will hold.
  await checkWritable(output);
  const { urls, notices } = await setUpRoles(adminUrl, database === undefined ? {} : { database });
  await writeUrlsFile(output, urls);
  for (const notice of notices) process.stderr.write(`${notice}\n`);
  say(
    { file: output, notices },
    `The logins' URLs are in ${output} (readable by you only). Next: db migrate.`,
  );
}

async function checkWritable(output: string): Promise<void> {
  try {
    await access(dirname(output), constants.W_OK);
  } catch (cause) {
    throw new AppError(
      'invalid_configuration',
      `${output} cannot be written; say with --output where the URLs may go.`,
      { cause },
    );
  }
}

/** The same for what works on tables: development brings the schema up to date, production is told to. */
export async function withServedSchema(
  loaded: LoadedSettings,
  use: (db: Database, directory: DataDirectory) => Promise<void>,
): Promise<void> {
  await withDatabase(loaded, async (db, directory) => {
    const schema = await prepareSchema(db, loaded.settings, plainLogger);
    if (schema === 'ahead')
      throw new AppError('schema_ahead', 'The database schema is newer than this version of Stoa serves.');
    if (schema === 'behind') {
      throw new AppError(
        'invalid_configuration',
        'The database schema is older than this version needs: run `stoa db migrate` first.',
      );
    }
    await use(db, directory);
  });
}

async function withDatabase(
  loaded: LoadedSettings,
  use: (db: Database, directory: DataDirectory) => Promise<void>,
): Promise<void> {
  const directory = openDataDirectory(loaded.settings.dataDir);
  const lock = loaded.settings.databaseUrl === null ? lockDataDirectory(directory.path) : null;
  try {
    const db = await openConfiguredDatabase(loaded.settings, directory, plainLogger);
    try {
      await use(db, directory);
    } finally {
      await db.close();
    }
  } finally {
    lock?.release();
  }
}

/** A command observes nothing; the modules that it uses want their metrics all the same. */
export function commandTelemetry(): Promise<Telemetry> {
  return createTelemetry({
    logLevel: 'silent',
    serviceName: 'stoa',
    serviceVersion: stoaVersion,
    tracing: null,
  });
}

/** Making a key seals nothing, so a sealer of the moment will do. */
async function createOperatorKey(db: Database, name: string, role: OperatorRole): Promise<string> {
  const telemetry = await commandTelemetry();
  const sealer = createSealer(randomBytes(32));
  const keys = createAccess({
    db,
    clock: systemClock,
    logger: plainLogger,
    metrics: telemetry.metrics,
    sealer,
  });
  const { key } = await keys.api.createOperatorKey({ operator: 'system:command' }, { name, role });
  await telemetry.stop();
  return key;
}

const sayError = (_fields: object, message: string): void => {
  process.stderr.write(`${message}\n`);
};

/** Commands speak to a person: what matters goes to standard error as a sentence. */
export const plainLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: sayError,
  error: sayError,
  child: () => plainLogger,
};
