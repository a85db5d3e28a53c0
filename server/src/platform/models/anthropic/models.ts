import type { OutboundClient } from '#http';
import { AppError } from '#kernel';
import type { PreparedConnection } from '../http-call.ts';
import { listOf, member, textOf } from '../json-member.ts';
import { modelsOfAnswer, readModelList } from '../openai-compatible-models.ts';
import type { ListedModel } from '../types.ts';

const LIST_TIMEOUT_MS = 5_000;
const MAX_LIST_BYTES = 4 * 1024 * 1024;
const PAGE = 1_000;
const MAX_PAGES = 5;

/** The API writes `created_at` as a date where OpenAI has Unix seconds. */
function readPage(json: unknown): readonly ListedModel[] | null {
  const models = readModelList(json);
  if (models === null) return null;
  const created = new Map(
    listOf(json, 'data').map((entry) => [textOf(entry, 'id'), Date.parse(textOf(entry, 'created_at') ?? '')]),
  );
  return models.map((model) => {
    const ms = created.get(model.id) ?? Number.NaN;
    return {
      ...model,
      createdAt: Number.isNaN(ms) ? 0 : Math.max(0, Math.floor(ms / 1_000)),
      ownedBy: 'anthropic',
    };
  });
}

/** GET {baseUrl}/models, at most 5 pages of 1,000, each within 5 s and 4 MiB. Rejects with an AppError. */
export async function listAnthropicModels(
  outbound: OutboundClient,
  prepared: PreparedConnection | null,
  signal: AbortSignal,
): Promise<readonly ListedModel[]> {
  if (prepared === null) {
    throw new AppError('provider_misconfigured', 'The base URL of the provider is no http or https URL.');
  }
  const models: ListedModel[] = [];
  let after = '';
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const answer = await outbound.requestJson({
      method: 'GET',
      url: `${prepared.origin}${prepared.basePath}/models?limit=${PAGE}${after}`,
      headers: [...prepared.headers, 'accept', 'application/json'],
      body: null,
      timeoutMs: LIST_TIMEOUT_MS,
      maxBodyBytes: MAX_LIST_BYTES,
      signal,
    });
    models.push(...modelsOfAnswer(answer, readPage));
    const json = answer.outcome === 'answered' ? answer.json : null;
    const lastId = textOf(json, 'last_id');
    if (member(json, 'has_more') !== true || lastId === null) break;
    after = `&after_id=${encodeURIComponent(lastId)}`;
  }
  return models;
}
