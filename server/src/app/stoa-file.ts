import { modelFileEntry, providerFileEntry, type Settings } from '@stoa/contracts';
import { z } from 'zod';
import type { Logger } from '#kernel';
import { type ApplyReport, type FileSections, type RegistryApi, sectionFaults } from '#registry';
import { configFilePath, type Environment, processEnvironment } from './config.ts';
import { loadConfigFile } from './config-file.ts';

/** What `stoa.yaml` may hold, with every contradiction between entries as a fault of its own. */
function fileShape(environment: Environment) {
  return z
    .strictObject({
      providers: z.array(providerFileEntry).default([]),
      models: z.array(modelFileEntry).default([]),
    })
    .superRefine((sections, context) => {
      for (const { path, wrong, expected } of sectionFaults(sections, (name) => environment[name])) {
        context.addIssue({ code: 'custom', path: [...path], message: expected, params: { wrong } });
      }
    });
}

/**
 * The sections of the file that the settings name; empty ones where there is none.
 * @throws AppError `invalid_configuration` with every fault of the file, each with line and column
 */
export function loadStoaFile(
  settings: Settings,
  environment: Environment = processEnvironment(),
): FileSections {
  const file = loadConfigFile({ ...configFilePath(settings), schema: fileShape(environment) });
  return file ?? { providers: [], models: [] };
}

/** Applies the file, or its absence, and says in the log what that changed. */
export async function applyStoaFile(
  settings: Settings,
  registry: RegistryApi,
  logger: Logger,
): Promise<ApplyReport> {
  const report = await registry.apply(loadStoaFile(settings));
  if (report.added + report.changed + report.disabled > 0) {
    logger.info(report, 'the configuration file was applied');
  }
  return report;
}
