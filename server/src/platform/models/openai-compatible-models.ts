import type { OutboundClient, OutboundJsonAnswer } from '#http';
import { AppError } from '#kernel';
import type { PreparedConnection } from './http-call.ts';
import { isList, member } from './json-member.ts';
import type { ListedModel, ProviderConnection } from './types.ts';

const LIST_TIMEOUT_MS = 5_000;
const MAX_LIST_BYTES = 4 * 1024 * 1024;
const MAX_MODELS = 5_000;
const MAX_ID_CHARACTERS = 200;

/** Printable, without a space at either end: what can be written in `model` and in a log line. */
function saneId(value: unknown): string | null {
  if (typeof value !== 'string' || value.length === 0 || value.length > MAX_ID_CHARACTERS) return null;
  return value === value.trim() && !/\p{C}/u.test(value) ? value : null;
}

function entries(json: unknown): readonly unknown[] | null {
  for (const candidate of [json, member(json, 'data'), member(json, 'models')]) {
    if (isList(candidate)) return candidate;
  }
  return null;
}

/**
 * The models in a list as servers write it: `{ data: [{ id }] }`, a bare array, `{ models: [{ name }] }`, or plain names.
 * Null where it is no list. What has no sane id is left out, and so is what is beyond 5,000.
 */
export function readModelList(json: unknown): readonly ListedModel[] | null {
  const list = entries(json);
  if (list === null) return null;
  const models = new Map<string, ListedModel>();
  for (const entry of list) {
    if (models.size === MAX_MODELS) break;
    const id =
      saneId(entry) ??
      saneId(member(entry, 'id')) ??
      saneId(member(entry, 'model')) ??
      saneId(member(entry, 'name'));
    if (id === null || models.has(id)) continue;
    const created = member(entry, 'created');
    const createdAt =
      typeof created === 'number' && Number.isSafeInteger(created) && created >= 0 ? created : 0;
    models.set(id, { id, createdAt, ownedBy: saneId(member(entry, 'owned_by')) ?? '' });
  }
  return [...models.values()];
}

/** The list in an answer; an AppError that says why there is none is thrown. */
export function modelsOfAnswer(
  answer: OutboundJsonAnswer,
  read: typeof readModelList,
): readonly ListedModel[] {
  if (answer.outcome === 'failed') {
    const { kind, detail } = answer.fault;
    if (kind === 'timeout' || kind === 'cancelled') {
      throw new AppError('provider_timeout', 'The provider did not list its models in time.', {
        cause: new Error(detail),
      });
    }
    if (kind === 'unreachable' || kind === 'overloaded' || kind === 'cut') {
      throw new AppError('provider_unreachable', 'The provider could not be reached.', {
        cause: new Error(detail),
      });
    }
    throw new AppError('provider_unreadable', 'The list of models cannot be read.', {
      cause: new Error(detail),
    });
  }
  const { status, json } = answer;
  if (status === 401 || status === 403) {
    throw new AppError('provider_misconfigured', 'The provider refused the credential of this platform.');
  }
  if (status < 200 || status > 299) {
    throw new AppError('provider_error', 'The provider failed to list its models.', { details: { status } });
  }
  const models = read(json);
  if (models === null) throw new AppError('provider_unreadable', 'The list of models cannot be read.');
  return models;
}

/** GET {baseUrl}/models, within 5 s and 4 MiB. Rejects with an AppError. */
export async function listOpenAiModels(
  outbound: OutboundClient,
  connection: ProviderConnection,
  prepared: PreparedConnection | null,
  signal: AbortSignal,
): Promise<readonly ListedModel[]> {
  if (prepared === null) {
    throw new AppError('provider_misconfigured', 'The base URL of the provider is no http or https URL.', {
      details: { provider: connection.id },
    });
  }
  const answer = await outbound.requestJson({
    method: 'GET',
    url: `${prepared.origin}${prepared.basePath}/models${prepared.query}`,
    headers: [...prepared.headers, 'accept', 'application/json'],
    body: null,
    timeoutMs: LIST_TIMEOUT_MS,
    maxBodyBytes: MAX_LIST_BYTES,
    signal,
  });
  return modelsOfAnswer(answer, readModelList);
}
