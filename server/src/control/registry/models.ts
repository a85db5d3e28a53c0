import type { changeControlModel, ControlModel, createControlModel } from '@stoa/contracts';
import type { z } from 'zod';
import { type Database, isUniqueViolation, type OperatorContext, type OperatorHandle } from '#db';
import { AppError, type Clock, fromTypeId, newUuid, type Page, requireVersion, toTypeId } from '#kernel';
import type { Target } from '#models';
import { type Catalog, type CatalogEntry, defaultDeadlines } from './catalog.ts';
import { pageAfter } from './pages.ts';
import { compare, derivedModelId } from './providers.ts';
import {
  deleteModelRow,
  insertModel,
  lockState,
  selectModels,
  selectProviders,
  updateModel,
} from './registry.sql.ts';
import type { ModelRow, ModelValues, ProviderRow } from './rows.ts';

type NewModel = z.output<NonNullable<typeof createControlModel.body>>;
type ModelChange = z.output<NonNullable<typeof changeControlModel.body>>;

/** Models for the operator. Errors as the contract of each endpoint lists them. */
export interface ModelStore {
  /** `answer` makes the result of the new model, inside the transaction. */
  create<Answer>(
    by: OperatorContext,
    values: NewModel,
    answer: (tx: OperatorHandle, made: ControlModel) => Promise<Answer>,
  ): Promise<Answer>;
  list(by: OperatorContext, page: { after?: string | undefined; limit: number }): Promise<Page<ControlModel>>;
  read(by: OperatorContext, id: string): Promise<ControlModel>;
  change(by: OperatorContext, id: string, change: ModelChange, ifMatch: string | null): Promise<ControlModel>;
  remove(by: OperatorContext, id: string, ifMatch: string | null): Promise<void>;
}

/** What the price book says of a target, as decimal text in USD per token; null without a price. */
export type PriceOf = (target: Target) => { readonly input: string; readonly output: string } | null;

export interface ModelStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly priceOf: PriceOf;
  catalog(): Catalog;
  /** What the catalog will be once these rows are committed. */
  catalogWith(rows: Rows): Catalog;
  /** Called after the commit of each change, awaited before the answer goes out. */
  readonly onChanged: () => Promise<void>;
}

interface Rows {
  readonly models: readonly ModelRow[];
  readonly providers: readonly ProviderRow[];
}

export function createModelStore(deps: ModelStoreDeps): ModelStore {
  return new Models(deps);
}

class Models implements ModelStore {
  readonly #deps: ModelStoreDeps;

  constructor(deps: ModelStoreDeps) {
    this.#deps = deps;
  }

  #readRows(by: OperatorContext, reason: string): Promise<Rows> {
    return this.#deps.db.withOperator(by, reason, async (tx) => ({
      models: await selectModels(tx),
      providers: await selectProviders(tx),
    }));
  }

  #fixed(): ControlModel[] {
    return [...this.#deps.catalog().entries.values()]
      .filter((entry) => entry.modelUuid === null)
      .map((entry) => listedModelObject(entry, this.#deps.priceOf));
  }

  #show(
    row: ModelRow,
    providers: readonly ProviderRow[],
    catalog: Catalog = this.#deps.catalog(),
  ): ControlModel {
    const active = catalog.entries.get(row.target);
    const target = active?.modelUuid === row.model_id ? active.target : null;
    return configuredModel(row, providers, target, this.#deps.priceOf);
  }

  #requireNotListed(id: string): void {
    if (!this.#fixed().some((one) => one.id === id)) return;
    const message = 'The model is listed by its provider or built in; it has nothing to change.';
    throw new AppError('managed_by_file', message);
  }

  async create<Answer>(
    by: OperatorContext,
    values: NewModel,
    answer: (tx: OperatorHandle, made: ControlModel) => Promise<Answer>,
  ): Promise<Answer> {
    const providerId = fromTypeId('prov', values.provider_id);
    const answered = await unique(() =>
      this.#deps.db.withOperator(by, 'models.create', async (tx) => {
        await lockState(tx);
        const providers = await selectProviders(tx);
        const provider = providers.find((one) => one.provider_id === providerId);
        if (!provider) {
          const message = 'provider_id: there is no such provider of the API or the file.';
          throw new AppError('invalid_request', message, { param: 'provider_id' });
        }
        const key = {
          modelId: newUuid(),
          source: 'api' as const,
          createdAt: new Date(this.#deps.clock.now()),
        };
        const row = await insertModel(tx, key, newValues(values, provider.provider_id));
        await tx.audit({
          action: 'control_models.create',
          resource: auditedModelId(row),
          after: auditedModel(row),
        });
        const catalog = this.#deps.catalogWith({ providers, models: await selectModels(tx) });
        return answer(tx, this.#show(row, providers, catalog));
      }),
    );
    await this.#deps.onChanged();
    return answered;
  }

  async list(
    by: OperatorContext,
    page: { after?: string | undefined; limit: number },
  ): Promise<Page<ControlModel>> {
    const { models, providers } = await this.#readRows(by, 'models.list');
    const all = [...this.#fixed(), ...models.map((row) => this.#show(row, providers))];
    return pageAfter(
      all.sort((a, b) => compare(a.target, b.target) || compare(a.id, b.id)),
      page,
    );
  }

  async read(by: OperatorContext, id: string): Promise<ControlModel> {
    const own = this.#fixed().find((one) => one.id === id);
    if (own) return own;
    const { models, providers } = await this.#readRows(by, 'models.read');
    return this.#show(requireRow(models, id), providers);
  }

  async change(
    by: OperatorContext,
    id: string,
    change: ModelChange,
    ifMatch: string | null,
  ): Promise<ControlModel> {
    this.#requireNotListed(id);
    const written = await unique(() =>
      this.#deps.db.withOperator(by, 'models.change', async (tx) => {
        await lockState(tx);
        const found = requireRow(await selectModels(tx), id);
        requireOwnedByApi(found);
        requireVersion(ifMatch, Number(found.version));
        const row = await updateModel(tx, found.model_id, changedValues(found, change));
        await tx.audit({
          action: 'control_models.change',
          resource: auditedModelId(row),
          before: auditedModel(found),
          after: auditedModel(row),
        });
        return { row, providers: await selectProviders(tx) };
      }),
    );
    await this.#deps.onChanged();
    return this.#show(written.row, written.providers);
  }

  async remove(by: OperatorContext, id: string, ifMatch: string | null): Promise<void> {
    this.#requireNotListed(id);
    await this.#deps.db.withOperator(by, 'models.delete', async (tx) => {
      await lockState(tx);
      const found = requireRow(await selectModels(tx), id);
      requireOwnedByApi(found);
      requireVersion(ifMatch, Number(found.version));
      await deleteModelRow(tx, found.model_id);
      await tx.audit({
        action: 'control_models.delete',
        resource: auditedModelId(found),
        before: auditedModel(found),
      });
    });
    await this.#deps.onChanged();
  }
}

async function unique<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new AppError('already_exists', 'There is a model for this target already.', { param: 'target' });
  }
}

function requireRow(rows: readonly ModelRow[], id: string): ModelRow {
  const uuid = fromTypeId('mod', id);
  const row = rows.find((one) => one.model_id === uuid);
  if (!row) throw new AppError('not_found', 'There is no such model.');
  return row;
}

function requireOwnedByApi(row: ModelRow): void {
  if (row.source === 'api') return;
  throw new AppError('managed_by_file', 'The model is managed by stoa.yaml; change it there.');
}

function newValues(values: NewModel, providerId: string): ModelValues {
  return {
    target: values.target,
    provider_id: providerId,
    provider_model: values.model ?? values.target,
    kind: values.kind,
    context_tokens: values.context_tokens,
    max_output_tokens: values.max_output_tokens,
    whole_ms: values.deadlines.whole_ms ?? null,
    first_frame_ms: values.deadlines.first_frame_ms ?? null,
    between_frames_ms: values.deadlines.between_frames_ms ?? null,
    price_provider: values.price_as?.provider ?? null,
    price_model: values.price_as?.model ?? null,
    is_enabled: values.enabled,
  };
}

function changedValues(row: ModelRow, change: ModelChange): ModelValues {
  const { deadlines, price_as: price } = change;
  return {
    target: change.target ?? row.target,
    provider_id: row.provider_id,
    provider_model: change.model ?? row.provider_model,
    kind: change.kind ?? row.kind,
    context_tokens: change.context_tokens === undefined ? row.context_tokens : change.context_tokens,
    max_output_tokens:
      change.max_output_tokens === undefined ? row.max_output_tokens : change.max_output_tokens,
    whole_ms: deadlines ? (deadlines.whole_ms ?? null) : row.whole_ms,
    first_frame_ms: deadlines ? (deadlines.first_frame_ms ?? null) : row.first_frame_ms,
    between_frames_ms: deadlines ? (deadlines.between_frames_ms ?? null) : row.between_frames_ms,
    price_provider: price === undefined ? row.price_provider : (price?.provider ?? null),
    price_model: price === undefined ? row.price_model : (price?.model ?? null),
    is_enabled: change.enabled ?? row.is_enabled,
  };
}

export function auditedModelId(row: ModelRow) {
  return { type: 'model', id: toTypeId('mod', row.model_id) };
}

/** A model as the audit keeps it: as stored, without what follows from its provider or the price book. */
export function auditedModel(row: ModelRow) {
  return {
    target: row.target,
    provider_id: toTypeId('prov', row.provider_id),
    model: row.provider_model,
    kind: row.kind,
    context_tokens: row.context_tokens,
    max_output_tokens: row.max_output_tokens,
    deadlines: {
      whole_ms: row.whole_ms,
      first_frame_ms: row.first_frame_ms,
      between_frames_ms: row.between_frames_ms,
    },
    price_as: { provider: row.price_provider, model: row.price_model },
    enabled: row.is_enabled,
    source: row.source,
    version: Number(row.version),
  };
}

function configuredModel(
  row: ModelRow,
  providers: readonly ProviderRow[],
  target: Target | null,
  priceOf: PriceOf,
): ControlModel {
  return {
    id: toTypeId('mod', row.model_id),
    object: 'model',
    target: row.target,
    provider_id: toTypeId('prov', row.provider_id),
    provider: providers.find((one) => one.provider_id === row.provider_id)?.name ?? '',
    model: row.provider_model,
    kind: row.kind,
    generative: row.kind === 'chat',
    context_tokens: row.context_tokens,
    max_output_tokens: row.max_output_tokens,
    deadlines: {
      whole_ms: row.whole_ms ?? defaultDeadlines.wholeMs,
      first_frame_ms: row.first_frame_ms ?? defaultDeadlines.firstFrameMs,
      between_frames_ms: row.between_frames_ms ?? defaultDeadlines.betweenFramesMs,
    },
    price_as: target?.priceKey ?? {
      provider: row.price_provider,
      model: row.price_model ?? row.provider_model,
    },
    priced: target !== null && priceOf(target) !== null,
    enabled: row.is_enabled,
    active: target !== null,
    source: row.source,
    discovered: false,
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
  };
}

function listedModelObject({ target, providerUuid }: CatalogEntry, priceOf: PriceOf): ControlModel {
  return {
    id: derivedModelId(providerUuid, target.id),
    object: 'model',
    target: target.id,
    provider_id: toTypeId('prov', providerUuid),
    provider: target.provider.id,
    model: target.model,
    kind: target.kind,
    generative: target.isGenerative,
    context_tokens: target.contextTokens,
    max_output_tokens: target.maxOutputTokens,
    deadlines: {
      whole_ms: target.deadlines.wholeMs,
      first_frame_ms: target.deadlines.firstFrameMs,
      between_frames_ms: target.deadlines.betweenFramesMs,
    },
    price_as: target.priceKey,
    priced: priceOf(target) !== null,
    enabled: true,
    active: true,
    source: target.source,
    discovered: target.source !== 'built-in',
    version: 0,
    created_at: new Date(Math.max(0, target.createdAt) * 1000).toISOString(),
    updated_at: null,
  };
}
