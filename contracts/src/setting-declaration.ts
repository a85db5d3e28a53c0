/** How a setting is declared, and what it holds once it is read. The settings themselves are in settings.ts. */

export const settingSections = [
  { id: 'process', title: 'The process' },
  { id: 'network', title: 'Network' },
  { id: 'database', title: 'Database' },
  { id: 'servers', title: 'Other servers' },
  { id: 'models', title: 'Models' },
  { id: 'metering', title: 'Metering and the journal' },
  { id: 'access', title: 'Keys and secrets' },
  { id: 'limits', title: 'Limits and overload' },
  { id: 'retention', title: 'Retention' },
] as const;
export type SettingSection = (typeof settingSections)[number]['id'];

export const profiles = ['development', 'production'] as const;
export type Profile = (typeof profiles)[number];

/** Default text, the same in both profiles or one for each; null where the setting is unset by default. */
export type SettingDefault = string | null | { readonly [P in Profile]: string | null };

interface SettingBase {
  /** `STOA_` and words in capitals, with the unit last where there is one. */
  readonly name: `STOA_${string}`;
  readonly section: SettingSection;
  readonly default: SettingDefault;
  /** What it does, one or two sentences, for the operator. */
  readonly sentence: string;
  /** Secrets are never printed, logged or shown in a report. */
  readonly isSecret?: true;
  /** The production profile refuses to start without it. */
  readonly isRequiredInProduction?: true;
  /** Part of the agreed names, but nothing in this version reads it: setting it warns. */
  readonly isReserved?: true;
}

interface NumberRange {
  /** Both inclusive, in the unit. */
  readonly min: number;
  readonly max: number;
}

/**
 * - `integer`, `duration` (milliseconds), `days`, `months`: digits within the range
 * - `bytes`: digits, or a number with `KiB`, `MiB` or `GiB`, within the range
 * - `listen`: `host:port` or `[v6]:port`, port 0 allowed
 * - `path`: a file or directory; a relative one is relative to the working directory
 * - `networks`: addresses and CIDR blocks, separated by commas
 * - `base64`: exactly `sizeBytes` bytes
 */
export type SettingDeclaration = SettingBase &
  (
    | { readonly type: 'text' | 'boolean' | 'listen' | 'path' | 'networks' }
    | ({ readonly type: 'integer' | 'duration' | 'bytes' | 'days' | 'months' } & NumberRange)
    | { readonly type: 'url'; readonly protocols: readonly string[] }
    | { readonly type: 'enum'; readonly values: readonly string[] }
    | { readonly type: 'base64'; readonly sizeBytes: number }
  );

/** An address to listen on; port 0 takes a free one. */
export interface ListenAddress {
  /** Without the brackets of IPv6. */
  readonly host: string;
  readonly port: number;
}

/** What each type of setting holds once it is read. */
export interface ValueOfType {
  text: string;
  boolean: boolean;
  listen: ListenAddress;
  path: string;
  networks: readonly string[];
  integer: number;
  duration: number;
  bytes: number;
  days: number;
  months: number;
  url: string;
  enum: string;
  base64: Uint8Array;
}

/** What any setting can hold. */
export type SettingValue = ValueOfType[keyof ValueOfType] | null;

/** `DATA_DIR` -> `dataDir`. */
export type CamelCase<Words extends string> = Words extends `${infer First}_${infer Rest}`
  ? `${Lowercase<First>}${Capitalize<CamelCase<Rest>>}`
  : Lowercase<Words>;

/** The property that holds a setting: `STOA_DATA_DIR` -> `dataDir`. */
export function settingKey(name: string): string {
  return name
    .slice('STOA_'.length)
    .toLowerCase()
    .replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** The default text in a profile, null where the setting is unset. */
export function defaultText(declaration: SettingDeclaration, profile: Profile): string | null {
  const value: SettingDefault = declaration.default;
  return typeof value === 'object' && value !== null ? value[profile] : value;
}

/** Units that a size may be written with, smallest first. */
export const byteUnits = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const;

/** What a setting expects, for the report and the reference: `a whole number of milliseconds, 0 to 120000`. */
export function expectation(declaration: SettingDeclaration): string {
  switch (declaration.type) {
    case 'text':
      return 'text';
    case 'boolean':
      return '`true` or `false`';
    case 'integer':
      return `a whole number, ${declaration.min} to ${declaration.max}`;
    case 'duration':
      return `whole milliseconds, ${declaration.min} to ${declaration.max}`;
    case 'days':
    case 'months':
      return `whole ${declaration.type}, ${declaration.min} to ${declaration.max}`;
    case 'bytes':
      return `bytes, or a number with KiB, MiB or GiB, ${showBytes(declaration.min)} to ${showBytes(declaration.max)}`;
    case 'listen':
      return '`host:port` or `[v6]:port`, port 0 to 65535';
    case 'path':
      return 'a path';
    case 'networks':
      return 'addresses and CIDR blocks, separated by commas';
    case 'url':
      return `a URL that begins with ${declaration.protocols.map((protocol) => `${protocol}//`).join(' or ')}`;
    case 'enum':
      return `one of ${declaration.values.map((value) => `\`${value}\``).join(', ')}`;
    case 'base64':
      return `${declaration.sizeBytes} random bytes as base64 (\`openssl rand -base64 ${declaration.sizeBytes}\`)`;
  }
}

function showBytes(bytes: number): string {
  for (const [unit, size] of Object.entries(byteUnits).reverse()) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}
