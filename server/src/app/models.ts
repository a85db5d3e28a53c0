import type { Settings } from '@stoa/contracts';
import type { OutboundClient } from '#http';
import type { Clock, Logger } from '#kernel';
import {
  anthropic,
  extractive,
  type ModelProvider,
  type ModelProviders,
  openAiCompatible,
  type ProviderKind,
  scripted,
} from '#models';

export interface ModelParts {
  readonly providers: ModelProviders;
  readonly builtIn: readonly {
    readonly provider: 'extractive' | 'scripted';
    readonly id: string;
    readonly kind: 'chat' | 'embedding';
  }[];
  /** Reads what would otherwise be read at the first question. Never rejects; nobody need wait for it. */
  warmUp(): Promise<void>;
  close(): Promise<void>;
}

/** The engines of this process: the network ones always, the scripted one where a file of rules is set. */
export async function createModels(
  deps: { readonly outbound: OutboundClient; readonly clock: Clock; readonly logger: Logger },
  settings: Settings,
  rootDirectory: string,
): Promise<ModelParts> {
  const quoting = extractive(deps, {
    root: rootDirectory,
    sources: ['README.md', 'ARCHITECTURE.md', 'docs'],
  });
  const playing =
    settings.scriptedFile === null ? null : await scripted(deps, { file: settings.scriptedFile });
  const engines: ModelProvider[] = [
    openAiCompatible(deps),
    anthropic(deps),
    quoting,
    ...(playing ? [playing] : []),
  ];
  const providers = new Map<ProviderKind, ModelProvider>(engines.map((engine) => [engine.kind, engine]));
  return {
    providers,
    builtIn: [
      { provider: 'extractive', id: 'extractive', kind: 'chat' },
      ...(playing?.models ?? []).map(({ id, kind }) => ({ provider: 'scripted' as const, id, kind })),
    ],
    warmUp: () => quoting.warmUp(),
    async close() {
      for (const engine of engines) await engine.close();
    },
  };
}
