import { readFile } from 'node:fs/promises';
import type { ConditionalPrice, ModelPrice, Provider } from '@pydantic/genai-prices';
import { z } from 'zod';
import { AppError } from '#kernel';
import { type BookDocument, bookDocument } from './book-document.ts';

/**
 * The price data of `@pydantic/genai-prices`, taken as data: its functions that compute are never called, because they
 * compute in floats. The package holds prices as JavaScript numbers; the shortest decimal text of such a number is the
 * text that its authors wrote, and that text is what Stoa computes from.
 */

let loading: Promise<BookDocument> | null = null;

/**
 * The installed package's book. Loading takes about 70 ms, once.
 * @throws AppError `internal_error` where the package holds what this code does not understand
 */
export function packageBook(): Promise<BookDocument> {
  loading ??= load();
  return loading;
}

async function load(): Promise<BookDocument> {
  const [{ waitForUpdate }, version] = await Promise.all([
    import('@pydantic/genai-prices'),
    packageVersion(),
  ]);
  const providers = (await waitForUpdate()) ?? [];
  const document = bookDocument.safeParse({
    name: `genai-prices-${version}`,
    providers: providers.map(providerOf),
  });
  if (document.success) return document.data;
  throw new AppError('internal_error', 'The installed price data has an unknown shape.', {
    cause: document.error,
  });
}

async function packageVersion(): Promise<string> {
  const manifest = new URL('../package.json', import.meta.resolve('@pydantic/genai-prices'));
  return z.object({ version: z.string() }).parse(JSON.parse(await readFile(manifest, 'utf8'))).version;
}

/** Unchecked still: whatever the package's types promise, the document's schema is what decides. */
function providerOf(provider: Provider): unknown {
  return {
    id: provider.id,
    api_pattern: provider.api_pattern,
    provider_match: provider.provider_match,
    fallback: provider.fallback_model_providers,
    models: provider.models.map(({ id, match, prices }) => ({
      id,
      match,
      prices: Array.isArray(prices) ? prices.map(conditionalOf) : [{ prices: textsOf(prices) }],
    })),
  };
}

function conditionalOf({ constraint, prices }: ConditionalPrice): unknown {
  if (constraint === undefined) return { prices: textsOf(prices) };
  const { type: _type, ...condition } = constraint;
  return { constraint: condition, prices: textsOf(prices) };
}

function textsOf(prices: ModelPrice): Record<string, unknown> {
  const texts: Record<string, unknown> = {};
  for (const [key, price] of Object.entries(prices)) {
    if (price === undefined) continue;
    texts[key] =
      typeof price === 'number'
        ? String(price)
        : {
            base: String(price.base),
            tiers: price.tiers.map((tier) => ({ start: tier.start, price: String(tier.price) })),
          };
  }
  return texts;
}
