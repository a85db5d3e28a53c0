import type { BookDocument } from './book-document.ts';
import { compileMatch } from './match-rule.ts';
import { compileEntry, type PriceEntry } from './price-entry.ts';

/** A price book ready for look-ups. */
export interface Book {
  /** `genai-prices-0.1.8` */
  readonly name: string;
  /** Every entry with a price by tokens, in the order of the book. */
  readonly entries: readonly PriceEntry[];
  /** The provider that serves a base URL by its address, or null. */
  providerOfUrl(baseUrl: string): string | null;
  /** The entry of a model at a provider (by its id or another name of it), or null. */
  find(provider: string, model: string): PriceEntry | null;
}

interface CompiledModel {
  readonly matches: (name: string) => boolean;
  /** Null where the model is known and has no price by tokens. Made when first asked for. */
  readonly entry: () => PriceEntry | null;
}

interface CompiledProvider {
  readonly id: string;
  readonly servesUrl: (baseUrl: string) => boolean;
  readonly isCalled: (name: string) => boolean;
  readonly models: readonly CompiledModel[];
  readonly fallback: readonly string[];
}

/** Makes a document ready: 1,700 models in about 5 ms, since prices are parsed when first asked for. */
export function compileBook(document: BookDocument): Book {
  const providers: CompiledProvider[] = document.providers.map((provider) => ({
    id: provider.id,
    servesUrl: urlTest(provider.api_pattern),
    isCalled: provider.provider_match === undefined ? () => false : compileMatch(provider.provider_match),
    models: provider.models.map((model) => ({
      matches: compileMatch(model.match),
      entry: once(() => compileEntry(provider.id, model)),
    })),
    fallback: provider.fallback ?? [],
  }));
  const providerOf = (name: string): CompiledProvider | undefined =>
    providers.find(({ id }) => id === name) ?? providers.find(({ isCalled }) => isCalled(name));
  const entries = once(() =>
    providers.flatMap(({ models }) => models.flatMap(({ entry }): PriceEntry[] => listOf(entry()))),
  );
  return {
    name: document.name,
    get entries() {
      return entries();
    },
    providerOfUrl: (baseUrl) => providers.find(({ servesUrl }) => servesUrl(baseUrl))?.id ?? null,
    find(providerName, modelName) {
      const provider = providerOf(providerName.toLowerCase().trim());
      if (provider === undefined) return null;
      const model = modelName.toLowerCase().trim();
      const found =
        findModel(provider, providers, model) ?? findModel(provider, providers, withDashedDate(model));
      return found?.entry() ?? null;
    },
  };
}

function findModel(
  provider: CompiledProvider,
  providers: readonly CompiledProvider[],
  model: string,
): CompiledModel | null {
  const own = provider.models.find(({ matches }) => matches(model));
  if (own !== undefined) return own;
  for (const id of provider.fallback) {
    const other = providers.find((candidate) => candidate.id === id);
    const found = other?.models.find(({ matches }) => matches(model));
    if (found !== undefined) return found;
  }
  return null;
}

function urlTest(pattern: string): (baseUrl: string) => boolean {
  const expression = new RegExp(`^(?:${pattern})`);
  return (baseUrl) => baseUrl !== '' && expression.test(baseUrl);
}

/** `gpt-4o-20240806` as `gpt-4o-2024-08-06`: providers write dates both ways, the data only one. */
function withDashedDate(model: string): string {
  return model.replace(/-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)/g, '-$1-$2-$3');
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function listOf<T>(value: T | null): T[] {
  return value === null ? [] : [value];
}
