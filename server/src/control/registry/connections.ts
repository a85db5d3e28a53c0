import { createHash } from 'node:crypto';
import { defaultMaxConcurrency } from '@stoa/contracts';
import type { Logger, Sealer } from '#kernel';
import type { ProviderConnection, Target } from '#models';
import type { UsableProvider } from './catalog.ts';
import type { ProviderRow } from './rows.ts';

/** The server that STOA_OPENAI_BASE_URL names. */
export interface OpenAiSettings {
  /** With its `/v1`; a trailing slash is dropped. */
  readonly baseUrl: string;
  readonly apiKey: string | null;
  /** Simultaneous calls of one process to it; default 1,000. */
  readonly maxConcurrency?: number;
}

/** Names that the process itself gives to providers; no entry of the API or the file can bear them. */
const settingsProviderName = 'default';
export const reservedProviderNames: ReadonlySet<string> = new Set([
  settingsProviderName,
  'extractive',
  'scripted',
]);

/** The additional data under which a secret of a provider is sealed: it opens in its own row and column only. */
export function sealPlace(column: 'credential' | 'headers', providerId: string): string {
  return `platform:providers:${column}:${providerId}`;
}

/** A stable UUID (version 8) for what has no row, so that it has an id at the edge in every process. */
export function derivedUuid(name: string): string {
  const hex = createHash('sha256').update(`stoa registry ${name}`).digest('hex');
  const variant = ((Number.parseInt(hex[16] ?? '0', 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

export function settingsProvider(settings: OpenAiSettings): UsableProvider {
  return {
    uuid: derivedUuid('provider settings'),
    source: 'settings',
    discover: true,
    connection: {
      id: settingsProviderName,
      kind: 'openai-compatible',
      baseUrl: settings.baseUrl.replace(/\/+$/, ''),
      credential: settings.apiKey,
      headers: {},
      credentialId: derivedUuid('provider settings'),
      maxConcurrency: settings.maxConcurrency ?? defaultMaxConcurrency,
    },
  };
}

/** A provider inside this process, with its one or more targets. */
export function engineConnection(kind: 'extractive' | 'scripted'): ProviderConnection {
  return {
    id: kind,
    kind,
    baseUrl: '',
    credential: null,
    headers: {},
    credentialId: derivedUuid(`provider ${kind}`),
    maxConcurrency: defaultMaxConcurrency,
  };
}

export function engineTarget(
  kind: 'extractive' | 'scripted',
  model: { readonly id: string; readonly kind: Target['kind'] },
  deadlines: Target['deadlines'],
): Target {
  return {
    id: model.id,
    kind: model.kind,
    model: model.id,
    provider: engineConnection(kind),
    isGenerative: false,
    contextTokens: null,
    maxOutputTokens: null,
    deadlines,
    createdAt: Date.UTC(2026, 0, 1) / 1000,
    ownedBy: 'stoa',
    source: 'built-in',
    priceKey: { provider: 'stoa', model: model.id },
  };
}

/**
 * Turns rows into connections, opening each secret once a version. A row whose secret does not open (it was sealed under
 * another master key) is left out with a warning: a call without its credential would only be refused.
 */
export function createConnectionCache(deps: { readonly sealer: Sealer; readonly logger: Logger }) {
  let known = new Map<string, { readonly version: bigint; readonly provider: UsableProvider | null }>();

  const open = (row: ProviderRow): UsableProvider | null => {
    try {
      return {
        uuid: row.provider_id,
        source: row.source,
        discover: row.discover,
        connection: {
          id: row.name,
          kind: row.kind,
          baseUrl: row.base_url,
          credential: openSecret(
            deps.sealer,
            row.credential_sealed,
            sealPlace('credential', row.provider_id),
          ),
          headers: openHeaders(deps.sealer, row),
          credentialId: row.credential_id,
          maxConcurrency: row.max_concurrency,
        },
      };
    } catch (error) {
      deps.logger.warn(
        { provider: row.name, error },
        'the credential of a provider cannot be read; it is left out',
      );
      return null;
    }
  };

  return {
    /** The enabled providers, those of the file first. Where two bear one name the file's is used. */
    usable(rows: readonly ProviderRow[]): UsableProvider[] {
      const next: typeof known = new Map();
      const names = new Set<string>();
      const found: UsableProvider[] = [];
      const ordered = [
        ...rows.filter((row) => row.source === 'file'),
        ...rows.filter((row) => row.source === 'api'),
      ];
      for (const row of ordered) {
        if (!row.is_enabled || names.has(row.name)) continue;
        names.add(row.name);
        const held = known.get(row.provider_id);
        const entry = held?.version === row.version ? held : { version: row.version, provider: open(row) };
        next.set(row.provider_id, entry);
        if (entry.provider) found.push(entry.provider);
      }
      known = next;
      return found;
    },
  };
}

function openSecret(sealer: Sealer, sealed: string | null, place: string): string | null {
  return sealed === null ? null : sealer.open(sealed, place);
}

/** The extra headers of a row in the clear. Throws `internal_error` where they don't open. */
export function openHeaders(sealer: Sealer, row: Pick<ProviderRow, 'provider_id' | 'headers_sealed'>) {
  const text = openSecret(sealer, row.headers_sealed, sealPlace('headers', row.provider_id));
  const value: unknown = text === null ? {} : JSON.parse(text);
  const headers: Record<string, string> = {};
  if (typeof value !== 'object' || value === null) return headers;
  for (const [name, content] of Object.entries(value))
    if (typeof content === 'string') headers[name] = content;
  return headers;
}
