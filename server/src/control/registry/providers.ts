import type { changeProvider, createProvider, Provider } from '@stoa/contracts';
import type { z } from 'zod';
import { type Database, isUniqueViolation, type OperatorContext, type OperatorHandle } from '#db';
import {
  AppError,
  type Clock,
  fromTypeId,
  newUuid,
  type Page,
  requireVersion,
  type Sealer,
  toTypeId,
} from '#kernel';
import type { UsableProvider } from './catalog.ts';
import { derivedUuid, reservedProviderNames, sealPlace } from './connections.ts';
import type { ListingStatus } from './discovery.ts';
import { pageAfter } from './pages.ts';
import {
  deleteProviderRow,
  insertProvider,
  lockState,
  selectModels,
  selectProviders,
  updateProvider,
} from './registry.sql.ts';
import type { ProviderRow, ProviderValues } from './rows.ts';

type NewProvider = z.output<NonNullable<typeof createProvider.body>>;
type ProviderChange = z.output<NonNullable<typeof changeProvider.body>>;

/** Providers for the operator. Errors as the contract of each endpoint lists them. */
export interface ProviderStore {
  /** `answer` makes the result of the new provider, inside the transaction. */
  create<Answer>(
    by: OperatorContext,
    values: NewProvider,
    answer: (tx: OperatorHandle, made: Provider) => Promise<Answer>,
  ): Promise<Answer>;
  list(by: OperatorContext, page: { after?: string | undefined; limit: number }): Promise<Page<Provider>>;
  read(by: OperatorContext, id: string): Promise<Provider>;
  change(by: OperatorContext, id: string, change: ProviderChange, ifMatch: string | null): Promise<Provider>;
  remove(by: OperatorContext, id: string, ifMatch: string | null): Promise<void>;
}

export interface ProviderStoreDeps {
  readonly db: Database;
  readonly sealer: Sealer;
  readonly clock: Clock;
  /** Providers without rows, of the settings and inside this process. */
  readonly fixed: readonly UsableProvider[];
  statusOf(providerUuid: string): ListingStatus;
  firstStatusOf(provider: { readonly kind: ProviderRow['kind']; readonly discover: boolean }): ListingStatus;
  /** Called after the commit of each change, awaited before the answer goes out. */
  readonly onChanged: () => Promise<void>;
}

const defaultBaseUrls: Readonly<Record<string, string>> = { anthropic: 'https://api.anthropic.com/v1' };

/** Where a kind of provider is reached when nothing is said, or null where that has to be said. */
export function defaultBaseUrlOf(kind: string): string | null {
  return defaultBaseUrls[kind] ?? null;
}

/** What may be shown of a credential; of a short one, nothing. */
export function lastFourOf(credential: string | null): string | null {
  return credential !== null && credential.length >= 12 ? credential.slice(-4) : null;
}

export function createProviderStore(deps: ProviderStoreDeps): ProviderStore {
  return new Providers(deps);
}

class Providers implements ProviderStore {
  readonly #deps: ProviderStoreDeps;

  constructor(deps: ProviderStoreDeps) {
    this.#deps = deps;
  }

  #show(row: ProviderRow): Provider {
    return toProvider(row, this.#deps.statusOf(row.provider_id));
  }

  #fixed(): Provider[] {
    return this.#deps.fixed.map((one) => fixedProvider(one, this.#deps.statusOf(one.uuid)));
  }

  async create<Answer>(
    by: OperatorContext,
    values: NewProvider,
    answer: (tx: OperatorHandle, made: Provider) => Promise<Answer>,
  ): Promise<Answer> {
    const providerId = newUuid();
    const baseUrl = values.base_url ?? defaultBaseUrlOf(values.kind);
    if (baseUrl === null) {
      const message = `base_url: is needed for a provider of the kind ${values.kind}.`;
      throw new AppError('invalid_request', message, { param: 'base_url' });
    }
    const answered = await unique(() =>
      this.#deps.db.withOperator(by, 'providers.create', async (tx) => {
        await lockState(tx);
        await requireFreeName(tx, values.name, providerId);
        const key = { providerId, source: 'api' as const, createdAt: new Date(this.#deps.clock.now()) };
        const row = await insertProvider(tx, key, {
          name: values.name,
          kind: values.kind,
          base_url: baseUrl,
          ...sealedCredential(this.#deps.sealer, providerId, values.credential ?? null),
          ...sealedHeaders(this.#deps.sealer, providerId, values.headers),
          credential_id: newUuid(),
          max_concurrency: values.max_concurrency,
          discover: values.discover,
          is_enabled: values.enabled,
        });
        await tx.audit({
          action: 'providers.create',
          resource: auditedProviderId(row),
          after: auditedProvider(row),
        });
        const { kind, discover, is_enabled: isEnabled } = row;
        const status = this.#deps.firstStatusOf({ kind, discover: discover && isEnabled });
        return answer(tx, toProvider(row, status));
      }),
    );
    await this.#deps.onChanged();
    return answered;
  }

  async list(
    by: OperatorContext,
    page: { after?: string | undefined; limit: number },
  ): Promise<Page<Provider>> {
    const rows = await this.#deps.db.withOperator(by, 'providers.list', (tx) => selectProviders(tx));
    const all = [...this.#fixed(), ...rows.map((row) => this.#show(row))].sort(
      (a, b) => compare(a.name, b.name) || compare(a.id, b.id),
    );
    return pageAfter(all, page);
  }

  async read(by: OperatorContext, id: string): Promise<Provider> {
    const own = this.#fixed().find((one) => one.id === id);
    if (own) return own;
    return this.#show(
      await this.#deps.db.withOperator(by, 'providers.read', async (tx) =>
        requireRow(await selectProviders(tx), id),
      ),
    );
  }

  async change(
    by: OperatorContext,
    id: string,
    change: ProviderChange,
    ifMatch: string | null,
  ): Promise<Provider> {
    requireNoFixed(this.#fixed(), id);
    const row = await unique(() =>
      this.#deps.db.withOperator(by, 'providers.change', async (tx) => {
        await lockState(tx);
        const found = requireRow(await selectProviders(tx), id);
        requireOwnedByApi(found);
        requireVersion(ifMatch, Number(found.version));
        if (change.name !== undefined) await requireFreeName(tx, change.name, found.provider_id);
        const changed = await updateProvider(
          tx,
          found.provider_id,
          changedValues(this.#deps.sealer, found, change),
        );
        await tx.audit({
          action: 'providers.change',
          resource: auditedProviderId(changed),
          before: auditedProvider(found),
          after: auditedProvider(changed),
        });
        return changed;
      }),
    );
    await this.#deps.onChanged();
    return this.#show(row);
  }

  async remove(by: OperatorContext, id: string, ifMatch: string | null): Promise<void> {
    requireNoFixed(this.#fixed(), id);
    await this.#deps.db.withOperator(by, 'providers.delete', async (tx) => {
      await lockState(tx);
      const found = requireRow(await selectProviders(tx), id);
      requireOwnedByApi(found);
      requireVersion(ifMatch, Number(found.version));
      const models = (await selectModels(tx)).filter(
        (model) => model.provider_id === found.provider_id,
      ).length;
      if (models > 0) {
        throw new AppError(
          'conflict',
          `The provider still has ${models} models of its own; delete them first.`,
        );
      }
      await deleteProviderRow(tx, found.provider_id);
      await tx.audit({
        action: 'providers.delete',
        resource: auditedProviderId(found),
        before: auditedProvider(found),
      });
    });
    await this.#deps.onChanged();
  }
}

/** Order by code units: the same in every process, whatever its locale. */
export function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** Names are unique over the sources that are in use; a disabled provider of an older file blocks none. */
async function requireFreeName(tx: OperatorHandle, name: string, providerId: string): Promise<void> {
  const rows = await selectProviders(tx);
  const isTaken = rows.some(
    (row) => row.name === name && row.provider_id !== providerId && (row.source === 'api' || row.is_enabled),
  );
  if (isTaken || reservedProviderNames.has(name)) throw nameTaken();
}

async function unique<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isUniqueViolation(error) ? nameTaken() : error;
  }
}

function nameTaken(): AppError {
  return new AppError('already_exists', 'There is a provider of this name already.', { param: 'name' });
}

function requireRow(rows: readonly ProviderRow[], id: string): ProviderRow {
  const uuid = fromTypeId('prov', id);
  const row = rows.find((one) => one.provider_id === uuid);
  if (!row) throw new AppError('not_found', 'There is no such provider.');
  return row;
}

function requireOwnedByApi(row: ProviderRow): void {
  if (row.source === 'api') return;
  throw new AppError('managed_by_file', 'The provider is managed by stoa.yaml; change it there.');
}

function requireNoFixed(fixed: readonly Provider[], id: string): void {
  if (fixed.some((one) => one.id === id)) {
    throw new AppError('managed_by_file', 'The provider is managed by the settings of the process.');
  }
}

function sealedCredential(sealer: Sealer, providerId: string, credential: string | null) {
  return {
    credential_sealed:
      credential === null ? null : sealer.seal(credential, sealPlace('credential', providerId)),
    credential_last_four: lastFourOf(credential),
  };
}

function sealedHeaders(sealer: Sealer, providerId: string, headers: Readonly<Record<string, string>>) {
  const names = Object.keys(headers);
  const place = sealPlace('headers', providerId);
  return {
    headers_sealed: names.length === 0 ? null : sealer.seal(JSON.stringify(headers), place),
    header_names: names,
  };
}

/**
 * The row's values after a change. A secret is never sent to an address that its giver did not see: where the address
 * moves to another origin, the credential and the headers have to be given again.
 */
function changedValues(sealer: Sealer, row: ProviderRow, change: ProviderChange): ProviderValues {
  const baseUrl = change.base_url ?? row.base_url;
  if (originOf(baseUrl) !== originOf(row.base_url)) {
    requireGivenAgain('credential', row.credential_sealed !== null, change.credential !== undefined);
    requireGivenAgain('headers', row.headers_sealed !== null, change.headers !== undefined);
  }
  const isNewSecret = change.credential !== undefined || change.headers !== undefined;
  const isNewAccount = isNewSecret || baseUrl !== row.base_url;
  return {
    name: change.name ?? row.name,
    kind: row.kind,
    base_url: baseUrl,
    ...(change.credential === undefined
      ? { credential_sealed: row.credential_sealed, credential_last_four: row.credential_last_four }
      : sealedCredential(sealer, row.provider_id, change.credential)),
    ...(change.headers === undefined
      ? { headers_sealed: row.headers_sealed, header_names: row.header_names }
      : sealedHeaders(sealer, row.provider_id, change.headers)),
    credential_id: isNewAccount ? newUuid() : row.credential_id,
    max_concurrency: change.max_concurrency ?? row.max_concurrency,
    discover: change.discover ?? row.discover,
    is_enabled: change.enabled ?? row.is_enabled,
  };
}

function requireGivenAgain(param: string, isHeld: boolean, isGiven: boolean): void {
  if (!isHeld || isGiven) return;
  const message = `${param}: must be given again when base_url moves to another host.`;
  throw new AppError('invalid_request', message, { param });
}

function originOf(url: string): string {
  return URL.parse(url)?.origin ?? url;
}

function discoveryOf(status: ListingStatus): Provider['discovery'] {
  return {
    state: status.state,
    models: status.models.length,
    last_success_at: status.lastSuccessMs === null ? null : new Date(status.lastSuccessMs).toISOString(),
    error: status.error,
  };
}

function toProvider(row: ProviderRow, status: ListingStatus): Provider {
  return {
    id: toTypeId('prov', row.provider_id),
    object: 'provider',
    name: row.name,
    kind: row.kind,
    base_url: row.base_url,
    header_names: [...row.header_names],
    has_credential: row.credential_sealed !== null,
    credential_last_four: row.credential_last_four,
    max_concurrency: row.max_concurrency,
    discover: row.discover,
    enabled: row.is_enabled,
    source: row.source,
    discovery: discoveryOf(status),
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
  };
}

export function auditedProviderId(row: ProviderRow) {
  return { type: 'provider', id: toTypeId('prov', row.provider_id) };
}

/** A provider as the audit keeps it; which secret it has is told by its record's id, which changes with it. */
export function auditedProvider(row: ProviderRow) {
  return {
    name: row.name,
    kind: row.kind,
    base_url: row.base_url,
    header_names: row.header_names,
    has_credential: row.credential_sealed !== null,
    credential_last_four: row.credential_last_four,
    credential_record: row.credential_id,
    max_concurrency: row.max_concurrency,
    discover: row.discover,
    enabled: row.is_enabled,
    source: row.source,
    version: Number(row.version),
  };
}

function fixedProvider(
  { uuid, connection, source, discover }: UsableProvider,
  status: ListingStatus,
): Provider {
  return {
    id: toTypeId('prov', uuid),
    object: 'provider',
    name: connection.id,
    kind: connection.kind,
    base_url: connection.baseUrl === '' ? null : connection.baseUrl,
    header_names: [],
    has_credential: connection.credential !== null,
    credential_last_four: lastFourOf(connection.credential),
    max_concurrency: connection.maxConcurrency,
    discover,
    enabled: true,
    source,
    discovery: discoveryOf(status),
    version: 0,
    created_at: null,
    updated_at: null,
  };
}

/** The id at the edge of a model without a row: the same in every process. */
export function derivedModelId(provider: string, target: string): string {
  return toTypeId('mod', derivedUuid(`model ${provider} ${target}`));
}
