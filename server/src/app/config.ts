import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  defaultText,
  expectation,
  type Profile,
  profiles,
  type SettingDeclaration,
  type Settings,
  type SettingValue,
  settingKey,
  settingTable,
} from '@stoa/contracts';
import { AppError } from '#kernel';
import { unknownNameWarnings } from './config-names.ts';
import { parseSetting } from './config-parse.ts';
import { crossFaults, productionFaults, type ReadableSettings, type SettingFault } from './config-rules.ts';

export type { SettingFault } from './config-rules.ts';

/** The environment as a plain object, as `process.env` is. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where a value came from: the default, the variable, or the file that `NAME_FILE` names. */
export type Origin =
  | { readonly kind: 'default' }
  | { readonly kind: 'environment' }
  | { readonly kind: 'file'; readonly path: string };

export interface LoadOptions {
  /** Holds `.stoa` by default. The repository's root. */
  readonly rootDirectory: string;
  /** What relative paths in the environment are relative to; default the process's working directory. */
  readonly workingDirectory?: string;
}

export interface LoadedSettings {
  readonly settings: Settings;
  /** By setting name; every declared setting has one. */
  readonly origins: ReadonlyMap<string, Origin>;
  /** Sentences for the operator, without secrets. */
  readonly warnings: readonly string[];
}

/** Exit code of a process whose configuration has faults (`EX_CONFIG` of sysexits.h). */
export const configurationExitCode = 78;

const secretFileLimitBytes = 64 * 1024;

/**
 * Reads all settings: the variable, else the file that `NAME_FILE` names, else the default. An empty variable is an
 * unset one. Reads no more than those files, and changes nothing.
 * @throws AppError `invalid_configuration` with every fault in one message (and as `details.faults`); no secret's value
 *   is ever part of it. The caller exits with `configurationExitCode`.
 */
export function loadSettings(environment: Environment, options: LoadOptions): LoadedSettings {
  const workingDirectory = options.workingDirectory ?? process.cwd();
  const reading = readAll(environment, options.rootDirectory, workingDirectory);
  const { values, origins, faults } = reading;
  const readable: ReadableSettings = Object.fromEntries(values);
  faults.push(...crossFaults(readable), ...productionFaults(readable));
  const unknownNames = unknownNameWarnings(presentNames(environment));
  if (faults.length > 0) throw configurationError(faults, unknownNames);
  const settings: Record<string, unknown> = Object.fromEntries(values);
  if (!isSettings(settings))
    throw new AppError('internal_error', 'The settings do not have their declared types.');
  return {
    settings: Object.freeze(settings),
    origins,
    warnings: [...unknownNames, ...reservedWarnings(values)],
  };
}

/** The environment of this process; the one place that reads it. */
export function processEnvironment(): Environment {
  return process.env;
}

/**
 * Whether OpenTelemetry's own variables ask for traces: an OTLP endpoint is set, and the SDK is not disabled. Where to,
 * how many and with which headers is read by OpenTelemetry itself.
 */
export function isTracingConfigured(environment: Environment): boolean {
  if (environment['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return false;
  if (environment['OTEL_TRACES_EXPORTER'] === 'none') return false;
  const names = ['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'OTEL_EXPORTER_OTLP_ENDPOINT'];
  return names.some((name) => (environment[name] ?? '') !== '');
}

/** The configuration file: the one that STOA_CONFIG names, else `stoa.yaml` beside the data directory. */
export function configFilePath(settings: Settings): { readonly path: string; readonly mustExist: boolean } {
  if (settings.config !== null) return { path: settings.config, mustExist: true };
  return { path: resolve(dirname(settings.dataDir), 'stoa.yaml'), mustExist: false };
}

/** One error that lists every fault, a line each, and then what may be their cause: names that nobody knows. */
export function configurationError(
  faults: readonly SettingFault[],
  warnings: readonly string[] = [],
): AppError {
  const lines = faults.map((fault) => `  ${fault.name}: ${fault.wrong}; expected ${fault.expected}.`);
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  return new AppError(
    'invalid_configuration',
    [`The configuration has ${count}:`, ...lines, ...warnings].join('\n'),
    {
      details: { faults },
    },
  );
}

interface Reading {
  readonly values: Map<string, SettingValue>;
  readonly origins: Map<string, Origin>;
  readonly faults: SettingFault[];
}

function readAll(environment: Environment, rootDirectory: string, workingDirectory: string): Reading {
  const reading: Reading = { values: new Map(), origins: new Map(), faults: [] };
  const profile = profileOf(environment, workingDirectory);
  for (const declaration of settingTable) {
    const { text, origin, fault } = sourceOf(declaration, environment, workingDirectory);
    reading.origins.set(declaration.name, origin);
    if (fault !== undefined) {
      reading.faults.push(fault);
      continue;
    }
    const chosen = text ?? defaultText(declaration, profile);
    if (chosen === null) {
      readUnset(declaration, profile, reading);
      continue;
    }
    const base = origin.kind === 'default' ? rootDirectory : workingDirectory;
    const parsed = parseSetting(declaration, chosen, base);
    if ('wrong' in parsed) reading.faults.push(faultOf(declaration, parsed.wrong));
    else reading.values.set(settingKey(declaration.name), parsed.value);
  }
  return reading;
}

function readUnset(declaration: SettingDeclaration, profile: Profile, reading: Reading): void {
  if (profile === 'production' && declaration.isRequiredInProduction === true) {
    reading.faults.push(faultOf(declaration, 'it is missing, and the production profile demands it'));
  } else {
    reading.values.set(settingKey(declaration.name), null);
  }
}

function faultOf(declaration: SettingDeclaration, wrong: string): SettingFault {
  return { name: declaration.name, wrong, expected: expectation(declaration) };
}

/** Defaults depend on the profile, so it is read first; a wrong one is reported by its own turn in the table. */
function profileOf(environment: Environment, workingDirectory: string): Profile {
  const declaration = settingTable[0];
  const { text } = sourceOf(declaration, environment, workingDirectory);
  return profiles.find((profile) => profile === text) ?? declaration.default;
}

interface Source {
  readonly text: string | null;
  readonly origin: Origin;
  readonly fault?: SettingFault;
}

function sourceOf(
  declaration: SettingDeclaration,
  environment: Environment,
  workingDirectory: string,
): Source {
  const value = environment[declaration.name];
  const file = environment[`${declaration.name}_FILE`];
  const hasValue = value !== undefined && value !== '';
  const hasFile = file !== undefined && file !== '';
  if (hasValue && hasFile) {
    const fault = {
      name: declaration.name,
      wrong: `${declaration.name}_FILE is set too`,
      expected: 'one of the two',
    };
    return { text: null, origin: { kind: 'environment' }, fault };
  }
  if (hasFile) return sourceFile(declaration, resolve(workingDirectory, file));
  if (hasValue) return { text: value, origin: { kind: 'environment' } };
  return { text: null, origin: { kind: 'default' } };
}

/** Trailing line ends are not part of the value: every editor and `echo` adds one. */
function sourceFile(declaration: SettingDeclaration, path: string): Source {
  const origin: Origin = { kind: 'file', path };
  const faultName = `${declaration.name}_FILE`;
  const expected = `a readable file of at most ${secretFileLimitBytes / 1024} KiB that holds ${expectation(declaration)}`;
  try {
    if (statSync(path).size > secretFileLimitBytes) {
      return { text: null, origin, fault: { name: faultName, wrong: `${path} is too large`, expected } };
    }
    const text = readFileSync(path, 'utf8').replace(/[\r\n]+$/, '');
    if (text === '')
      return { text: null, origin, fault: { name: faultName, wrong: `${path} is empty`, expected } };
    return { text, origin };
  } catch (error) {
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    return {
      text: null,
      origin,
      fault: { name: faultName, wrong: `${path} cannot be read (${reason})`, expected },
    };
  }
}

function presentNames(environment: Environment): string[] {
  return Object.keys(environment).filter((name) => environment[name] !== undefined);
}

function reservedWarnings(values: ReadonlyMap<string, SettingValue>): string[] {
  const warnings: string[] = [];
  for (const declaration of settingTable) {
    if (!('isReserved' in declaration)) continue;
    const value = values.get(settingKey(declaration.name));
    if (value !== null && value !== undefined) {
      warnings.push(`${declaration.name} is set, but this version does not use it yet.`);
    }
  }
  return warnings;
}

/** The proof that the parser kept the table's promise for every key; what makes the plain object a `Settings`. */
function isSettings(candidate: Record<string, unknown>): candidate is Settings & Record<string, unknown> {
  return settingTable.every((declaration: SettingDeclaration) => {
    const value = candidate[settingKey(declaration.name)];
    if (value === null) return declaration.default === null;
    switch (declaration.type) {
      case 'integer':
      case 'duration':
      case 'bytes':
      case 'days':
      case 'months':
        return typeof value === 'number';
      case 'boolean':
        return typeof value === 'boolean';
      case 'listen':
        return typeof value === 'object' && value !== null && 'host' in value && 'port' in value;
      case 'networks':
        return Array.isArray(value);
      case 'base64':
        return value instanceof Uint8Array;
      case 'enum':
        return typeof value === 'string' && declaration.values.includes(value);
      case 'text':
      case 'path':
      case 'url':
        return typeof value === 'string';
    }
  });
}
