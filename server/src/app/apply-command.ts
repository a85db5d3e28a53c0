import { parseArgs } from 'node:util';
import { AppError, createSealer, systemClock } from '#kernel';
import { createRegistry } from '#registry';
import { processEnvironment, type LoadedSettings } from './config.ts';
import { developmentMasterKey } from './data-directory.ts';
import { commandTelemetry, plainLogger, withServedSchema } from './database-commands.ts';
import { applyStoaFile } from './stoa-file.ts';

/**
 * `apply`: makes the entries of stoa.yaml the ones in effect, as the start of the role `control` does. Processes that
 * run on the same PostgreSQL follow within a second. An embedded database belongs to the process that runs on it; there
 * the file is applied by starting that process again, and the command says so.
 */
export async function applyCommand(args: readonly string[], loaded: LoadedSettings): Promise<void> {
  const { values } = parseArgs({ args: [...args], options: { json: { type: 'boolean', default: false } } });
  const { settings } = loaded;
  try {
    await withServedSchema(loaded, async (db, directory) => {
      const telemetry = await commandTelemetry();
      const registry = createRegistry(
        {
          db,
          // No engines: a command applies entries and asks nobody for models.
          providers: new Map(),
          sealer: createSealer(settings.masterKey ?? developmentMasterKey(directory)),
          clock: systemClock,
          logger: plainLogger,
          metrics: telemetry.metrics,
          priceOf: () => null,
          readEnvironment: (name) => processEnvironment()[name],
        },
        { openai: null, builtIn: [] },
      );
      const report = await applyStoaFile(settings, registry.api, plainLogger);
      await registry.lifecycle.stop();
      await telemetry.stop();
      const text = `Applied: ${report.added} added, ${report.changed} changed, ${report.disabled} disabled.`;
      process.stdout.write(`${values.json ? JSON.stringify(report) : text}\n`);
    });
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'data_directory_locked') throw error;
    throw new AppError(
      'data_directory_locked',
      `${error.publicMessage} It applies stoa.yaml when it starts: start it again, or change providers and models through its API.`,
      { cause: error, details: error.details },
    );
  }
}
