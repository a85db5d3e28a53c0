import {
  type SettingDeclaration,
  type Settings,
  type SettingValue,
  settingKey,
  settingSections,
  settingTable,
} from '@stoa/contracts';
import type { LoadedSettings, Origin } from './config.ts';

export interface PrintOptions {
  /** Adds where each value came from. */
  readonly origins?: boolean;
  /** One JSON object by setting name instead of text. */
  readonly json?: boolean;
}

const hidden = '***';

/**
 * All settings in effect, for `stoa config print`. Secrets are `***`; of a URL only its password and what looks like a
 * secret in its query are hidden, so that the host and database can be checked.
 */
export function printConfig(loaded: LoadedSettings, options: PrintOptions = {}): string {
  const rows = settingTable.map((declaration) => ({
    declaration,
    value: shownValue(declaration, valueOf(loaded.settings, declaration.name)),
    origin: originText(loaded.origins.get(declaration.name) ?? { kind: 'default' }),
  }));
  if (options.json === true) {
    const entries = rows.map(({ declaration, value, origin }) => [
      declaration.name,
      options.origins === true ? { value, origin } : value,
    ]);
    return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`;
  }
  const lines: string[] = [];
  for (const section of settingSections) {
    lines.push(`# ${section.title}`);
    for (const { declaration, value, origin } of rows) {
      if (declaration.section !== section.id) continue;
      const text = value === null ? `# ${declaration.name} is unset` : `${declaration.name}=${value}`;
      lines.push(options.origins === true ? `${text}  # ${origin}` : text);
    }
    lines.push('');
  }
  return lines.join('\n');
}

/** A URL without its password and without the values of query parameters that look like secrets. */
function redactUrl(text: string): string {
  if (!URL.canParse(text)) return hidden;
  const url = new URL(text);
  if (url.password !== '') url.password = hidden;
  // A name without a password is a token (NATS, HTTP); only a database's login is shown.
  else if (url.username !== '' && !url.protocol.startsWith('postgres')) url.username = hidden;
  for (const name of new Set(url.searchParams.keys())) {
    if (/pass|secret|token|key|credential|signature/i.test(name)) url.searchParams.set(name, hidden);
  }
  return url.href;
}

function valueOf(settings: Settings, name: string): SettingValue {
  const values: Readonly<Record<string, SettingValue>> = settings;
  return values[settingKey(name)] ?? null;
}

function shownValue(declaration: SettingDeclaration, value: SettingValue): string | null {
  if (value === null) return null;
  if (declaration.type === 'url' && typeof value === 'string') return redactUrl(value);
  if (declaration.isSecret === true || value instanceof Uint8Array) return hidden;
  if (typeof value !== 'object') return String(value);
  if (!('port' in value)) return value.join(',');
  return value.host.includes(':') ? `[${value.host}]:${value.port}` : `${value.host}:${value.port}`;
}

function originText(origin: Origin): string {
  return origin.kind === 'file' ? `file ${origin.path}` : origin.kind;
}
