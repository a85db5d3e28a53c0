import type { configurableProviderKinds, targetKinds } from '@stoa/contracts';

/** Rows as the queries return them. `source` is `file` or `api`; what settings and engines bring has no rows. */
export type RowSource = 'file' | 'api';

export interface ProviderRow {
  readonly provider_id: string;
  readonly source: RowSource;
  readonly name: string;
  readonly kind: (typeof configurableProviderKinds)[number];
  readonly base_url: string;
  readonly credential_sealed: string | null;
  readonly credential_last_four: string | null;
  readonly credential_id: string;
  readonly headers_sealed: string | null;
  readonly header_names: readonly string[];
  readonly max_concurrency: number;
  readonly discover: boolean;
  readonly is_enabled: boolean;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
}

export interface ModelRow {
  readonly model_id: string;
  readonly source: RowSource;
  readonly target: string;
  readonly provider_id: string;
  readonly provider_model: string;
  readonly kind: (typeof targetKinds)[number];
  readonly context_tokens: number | null;
  readonly max_output_tokens: number | null;
  readonly whole_ms: number | null;
  readonly first_frame_ms: number | null;
  readonly between_frames_ms: number | null;
  readonly price_provider: string | null;
  readonly price_model: string | null;
  readonly is_enabled: boolean;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
}

/** What a change of a provider writes. */
export type ProviderValues = Pick<
  ProviderRow,
  | 'name'
  | 'kind'
  | 'base_url'
  | 'credential_sealed'
  | 'credential_last_four'
  | 'credential_id'
  | 'headers_sealed'
  | 'header_names'
  | 'max_concurrency'
  | 'discover'
  | 'is_enabled'
>;

/** What a change of a model writes. */
export type ModelValues = Omit<ModelRow, 'model_id' | 'source' | 'version' | 'created_at' | 'changed_at'>;

/** Everything that a process keeps of the tables. */
export interface RegistryRows {
  readonly revision: bigint;
  readonly defaultOrder: readonly string[];
  /** By creation. */
  readonly providers: readonly ProviderRow[];
  readonly models: readonly ModelRow[];
}
