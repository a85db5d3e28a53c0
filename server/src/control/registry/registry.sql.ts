import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle } from '#db';
import type { ModelRow, ModelValues, ProviderRow, ProviderValues, RowSource } from './rows.ts';

const providerColumns = sql`provider_id, source, name, kind, base_url, credential_sealed, credential_last_four,
  credential_id, headers_sealed, header_names, max_concurrency, discover, is_enabled, version, created_at, changed_at`;
const modelColumns = sql`model_id, source, target, provider_id, provider_model, kind, context_tokens,
  max_output_tokens, whole_ms, first_frame_ms, between_frames_ms, price_provider, price_model, is_enabled, version,
  created_at, changed_at`;

export interface StateRow {
  readonly revision: bigint;
  readonly default_order: string;
  readonly policy_version: bigint;
  readonly policy_changed_at: Date | null;
}

/** The one row of the registry's state. Each process asks for it every second. */
export async function selectState(tx: SystemHandle | OperatorHandle): Promise<StateRow> {
  const { rows } = await sql<StateRow>`
    select revision, default_order, policy_version, policy_changed_at from platform.registry_state
  `.execute(tx);
  return one(rows);
}

/** Takes the turn to change the registry: changes are rare, and one after the other they need no retries. */
export async function lockState(tx: OperatorHandle): Promise<StateRow> {
  const { rows } = await sql<StateRow>`
    update platform.registry_state set revision = revision + 1
    returning revision, default_order, policy_version, policy_changed_at
  `.execute(tx);
  return one(rows);
}

export async function updateDefaultOrder(tx: OperatorHandle, order: string): Promise<StateRow> {
  const { rows } = await sql<StateRow>`
    update platform.registry_state
    set default_order = ${order}, policy_version = policy_version + 1, policy_changed_at = clock_timestamp()
    returning revision, default_order, policy_version, policy_changed_at
  `.execute(tx);
  return one(rows);
}

/** All providers, oldest first; tens of rows. */
export async function selectProviders(tx: SystemHandle | OperatorHandle): Promise<readonly ProviderRow[]> {
  const { rows } = await sql<ProviderRow>`
    select ${providerColumns} from platform.providers order by created_at, provider_id
  `.execute(tx);
  return rows;
}

/** All models that were configured (discovered ones have no rows), oldest first. */
export async function selectModels(tx: SystemHandle | OperatorHandle): Promise<readonly ModelRow[]> {
  const { rows } = await sql<ModelRow>`
    select ${modelColumns} from platform.models order by created_at, model_id
  `.execute(tx);
  return rows;
}

export async function insertProvider(
  tx: OperatorHandle,
  key: { providerId: string; source: RowSource; createdAt: Date },
  values: ProviderValues,
): Promise<ProviderRow> {
  const { rows } = await sql<ProviderRow>`
    insert into platform.providers (provider_id, source, name, kind, base_url, credential_sealed, credential_last_four,
      credential_id, headers_sealed, header_names, max_concurrency, discover, is_enabled, created_at)
    values (${key.providerId}, ${key.source}, ${values.name}, ${values.kind}, ${values.base_url},
      ${values.credential_sealed}, ${values.credential_last_four}, ${values.credential_id}, ${values.headers_sealed},
      ${values.header_names}, ${values.max_concurrency}, ${values.discover}, ${values.is_enabled}, ${key.createdAt})
    returning ${providerColumns}
  `.execute(tx);
  return one(rows);
}

export async function updateProvider(
  tx: OperatorHandle,
  providerId: string,
  values: ProviderValues,
): Promise<ProviderRow> {
  const { rows } = await sql<ProviderRow>`
    update platform.providers
    set name = ${values.name}, kind = ${values.kind}, base_url = ${values.base_url},
        credential_sealed = ${values.credential_sealed}, credential_last_four = ${values.credential_last_four},
        credential_id = ${values.credential_id}, headers_sealed = ${values.headers_sealed},
        header_names = ${values.header_names}, max_concurrency = ${values.max_concurrency},
        discover = ${values.discover}, is_enabled = ${values.is_enabled},
        version = version + 1, changed_at = clock_timestamp()
    where provider_id = ${providerId}
    returning ${providerColumns}
  `.execute(tx);
  return one(rows);
}

export async function deleteProviderRow(tx: OperatorHandle, providerId: string): Promise<void> {
  await sql`delete from platform.providers where provider_id = ${providerId}`.execute(tx);
}

export async function insertModel(
  tx: OperatorHandle,
  key: { modelId: string; source: RowSource; createdAt: Date },
  values: ModelValues,
): Promise<ModelRow> {
  const { rows } = await sql<ModelRow>`
    insert into platform.models (model_id, source, target, provider_id, provider_model, kind, context_tokens,
      max_output_tokens, whole_ms, first_frame_ms, between_frames_ms, price_provider, price_model, is_enabled, created_at)
    values (${key.modelId}, ${key.source}, ${values.target}, ${values.provider_id}, ${values.provider_model},
      ${values.kind}, ${values.context_tokens}, ${values.max_output_tokens}, ${values.whole_ms},
      ${values.first_frame_ms}, ${values.between_frames_ms}, ${values.price_provider}, ${values.price_model},
      ${values.is_enabled}, ${key.createdAt})
    returning ${modelColumns}
  `.execute(tx);
  return one(rows);
}

export async function updateModel(
  tx: OperatorHandle,
  modelId: string,
  values: ModelValues,
): Promise<ModelRow> {
  const { rows } = await sql<ModelRow>`
    update platform.models
    set target = ${values.target}, provider_id = ${values.provider_id}, provider_model = ${values.provider_model},
        kind = ${values.kind}, context_tokens = ${values.context_tokens},
        max_output_tokens = ${values.max_output_tokens}, whole_ms = ${values.whole_ms},
        first_frame_ms = ${values.first_frame_ms}, between_frames_ms = ${values.between_frames_ms},
        price_provider = ${values.price_provider}, price_model = ${values.price_model},
        is_enabled = ${values.is_enabled}, version = version + 1, changed_at = clock_timestamp()
    where model_id = ${modelId}
    returning ${modelColumns}
  `.execute(tx);
  return one(rows);
}

export async function deleteModelRow(tx: OperatorHandle, modelId: string): Promise<void> {
  await sql`delete from platform.models where model_id = ${modelId}`.execute(tx);
}

function one<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a row of the registry returned none');
  return row;
}
