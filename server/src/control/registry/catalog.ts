import { automaticModel, targetIdPattern } from '@stoa/contracts';
import type { ListedModel, ProviderConnection, Target } from '#models';
import type { ModelRow } from './rows.ts';

/**
 * Merges what the four sources say into the targets of one snapshot. Of several entries for one id the file's wins over
 * the API's, the API's over a provider's listing, and that over what is built in; every loser is named in a warning. An
 * entry of the API that is disabled keeps its id: that is how an operator hides a model which a provider lists.
 */

/** One enabled provider as this process can use it, its secrets opened. */
export interface UsableProvider {
  /** UUID text: of its row, or derived where it has none. */
  readonly uuid: string;
  readonly connection: ProviderConnection;
  readonly source: Target['source'];
  readonly discover: boolean;
}

export interface CatalogInput {
  /** By precedence: settings, file, API; each by age. */
  readonly providers: readonly UsableProvider[];
  readonly models: readonly ModelRow[];
  /** What the provider listed last; empty where nothing is known. */
  listingOf(providerUuid: string): readonly ListedModel[];
  readonly builtIn: readonly Target[];
  /** Target ids; empty for the order of the catalog itself. */
  readonly defaultOrder: readonly string[];
}

export interface CatalogEntry {
  readonly target: Target;
  /** The id of the model's row, or null where it has none. */
  readonly modelUuid: string | null;
  readonly providerUuid: string;
}

export interface Catalog {
  readonly entries: ReadonlyMap<string, CatalogEntry>;
  readonly chatOrder: readonly Target[];
  readonly warnings: readonly string[];
}

export const defaultDeadlines: Target['deadlines'] = {
  wholeMs: 600_000,
  firstFrameMs: 120_000,
  betweenFramesMs: 60_000,
};

export function buildCatalog(input: CatalogInput): Catalog {
  const entries = new Map<string, CatalogEntry>();
  const hidden = new Set<string>();
  const warnings: string[] = [];
  const byUuid = new Map(input.providers.map((provider) => [provider.uuid, provider]));

  const add = (entry: CatalogEntry): void => {
    const { id, source } = entry.target;
    const winner = entries.get(id);
    if (winner) {
      warnings.push(`the target ${id} of the source ${source} is hidden by that of ${winner.target.source}`);
    } else if (!hidden.has(id)) {
      entries.set(id, entry);
    }
  };

  for (const source of ['file', 'api'] as const) {
    for (const row of input.models) {
      if (row.source !== source) continue;
      const provider = byUuid.get(row.provider_id);
      if (row.is_enabled && provider) {
        add({ target: explicitTarget(row, provider), modelUuid: row.model_id, providerUuid: provider.uuid });
      } else if (source === 'api' && !row.is_enabled) {
        hidden.add(row.target);
      }
    }
  }
  for (const provider of input.providers) {
    if (!provider.discover) continue;
    for (const model of input.listingOf(provider.uuid)) {
      if (targetIdPattern.test(model.id) && model.id !== automaticModel) {
        add({ target: discoveredTarget(model, provider), modelUuid: null, providerUuid: provider.uuid });
      } else {
        warnings.push(
          `${provider.connection.id} lists the model ${JSON.stringify(model.id.slice(0, 100))}, whose name cannot be a target's; it is left out`,
        );
      }
    }
  }
  for (const target of input.builtIn)
    add({ target, modelUuid: null, providerUuid: target.provider.credentialId });
  return { entries, chatOrder: chatOrderOf(entries, input.defaultOrder), warnings };
}

/**
 * A set order is complete: `auto` uses what it names and nothing else. Without one, the extractive engine answers only
 * where there is no other chat target: quotations with a 200, in place of the error of a model that is down, would pass
 * for that model's answer with every client that does not look.
 */
function chatOrderOf(entries: ReadonlyMap<string, CatalogEntry>, defaultOrder: readonly string[]): Target[] {
  if (defaultOrder.length > 0) return chatTargets(entries, defaultOrder);
  const chats = [...entries.values()].map((entry) => entry.target).filter((target) => target.kind === 'chat');
  const answering = chats.filter((target) => target.provider.kind !== 'extractive');
  return (answering.length > 0 ? answering : chats)
    .map((target, index) => ({ target, index, rank: rankOf(target) }))
    .sort((a, b) => a.rank - b.rank || a.index - b.index)
    .map(({ target }) => target);
}

/** The enabled chat targets of a list of ids, in its order. */
export function chatTargets(entries: ReadonlyMap<string, CatalogEntry>, ids: readonly string[]): Target[] {
  return ids.flatMap((id) => {
    const target = entries.get(id)?.target;
    return target?.kind === 'chat' ? [target] : [];
  });
}

function rankOf(target: Target): number {
  if (!target.isGenerative) return 2;
  return target.source !== 'file' && target.source !== 'api' && hasOtherPurpose(target.model) ? 1 : 0;
}

function explicitTarget(row: ModelRow, provider: UsableProvider): Target {
  return {
    id: row.target,
    kind: row.kind,
    model: row.provider_model,
    provider: provider.connection,
    isGenerative: row.kind === 'chat',
    contextTokens: row.context_tokens,
    maxOutputTokens: row.max_output_tokens,
    deadlines: {
      wholeMs: row.whole_ms ?? defaultDeadlines.wholeMs,
      firstFrameMs: row.first_frame_ms ?? defaultDeadlines.firstFrameMs,
      betweenFramesMs: row.between_frames_ms ?? defaultDeadlines.betweenFramesMs,
    },
    createdAt: Math.floor(row.created_at.getTime() / 1000),
    ownedBy: provider.connection.id,
    source: row.source,
    priceKey:
      row.price_model === null
        ? priceKeyOf(provider.connection, row.provider_model)
        : { provider: row.price_provider, model: row.price_model },
  };
}

function discoveredTarget(model: ListedModel, provider: UsableProvider): Target {
  const kind = looksLikeEmbedder(model.id) ? 'embedding' : 'chat';
  return {
    id: model.id,
    kind,
    model: model.id,
    provider: provider.connection,
    isGenerative: kind === 'chat',
    contextTokens: null,
    maxOutputTokens: null,
    deadlines: defaultDeadlines,
    createdAt: model.createdAt,
    ownedBy: model.ownedBy,
    source: provider.source,
    priceKey: priceKeyOf(provider.connection, model.id),
  };
}

/** Hosts whose prices the price book knows under a provider's name. */
const priceProviders: Readonly<Record<string, string>> = {
  'api.openai.com': 'openai',
  'api.anthropic.com': 'anthropic',
  'api.mistral.ai': 'mistral',
  'api.groq.com': 'groq',
  'api.deepseek.com': 'deepseek',
  'openrouter.ai': 'openrouter',
  'api.together.xyz': 'together',
};

function priceKeyOf(connection: ProviderConnection, model: string): Target['priceKey'] {
  if (connection.kind === 'anthropic') return { provider: 'anthropic', model };
  const host = URL.parse(connection.baseUrl)?.hostname ?? '';
  return { provider: priceProviders[host] ?? null, model };
}

/** By the families of embedding models that servers list; a reranker is none, though its name may hold theirs. */
export function looksLikeEmbedder(id: string): boolean {
  const name = id.toLowerCase();
  if (/re-?rank/.test(name)) return false;
  return /embed|minilm|(?:^|[^a-z0-9])(?:bge|e5|gte)(?:[-_]|$)/.test(name);
}

/** Listed by providers beside chat models, and answered by other endpoints: the last that `auto` should try. */
function hasOtherPurpose(id: string): boolean {
  return /re-?rank|whisper|(?:^|[-_/])tts|dall-e|moderation|transcribe|realtime|sora|gpt-image|babbage|davinci/.test(
    id.toLowerCase(),
  );
}
