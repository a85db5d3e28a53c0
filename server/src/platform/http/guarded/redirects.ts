import type { OutboundHeaders, OutboundRequest } from '../outbound-types.ts';
import type { GuardRefusal } from './guarded-types.ts';

/** One request of a chain. Headers are names and values in turn. */
export interface PlannedRequest {
  readonly method: OutboundRequest['method'];
  readonly url: string;
  readonly headers: readonly string[];
  readonly body: Buffer | null;
}

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * What may follow to another origin. All else may be a credential, whatever its name: `authorization`, `cookie`,
 * `x-api-key`, a webhook's signature, a tenant's own header.
 */
const plainHeaders: ReadonlySet<string> = new Set(['accept', 'accept-language', 'user-agent']);
const contentHeaders: ReadonlySet<string> = new Set(['content-type', 'content-language']);

/** Whether the answer sends the caller elsewhere. */
export function isRedirect(status: number, headers: OutboundHeaders): boolean {
  return redirectStatuses.has(status) && headers['location'] !== undefined;
}

/** The request that follows a redirect, as browsers make it; where it leads is judged by whoever sends it. */
export function followingRequest(
  sent: PlannedRequest,
  from: URL,
  { status, headers }: { readonly status: number; readonly headers: OutboundHeaders },
): { readonly request: PlannedRequest } | { readonly refusal: GuardRefusal } {
  const { location } = headers;
  // Two of them are two readings: the one that is checked might not be the one that is meant.
  if (typeof location !== 'string' || !URL.canParse(location, from.href))
    return { refusal: { reason: 'redirect', detail: 'the redirect leads to no URL' } };
  const to = new URL(location, from.href);
  if (from.protocol === 'https:' && to.protocol === 'http:')
    return { refusal: { reason: 'redirect', detail: 'the redirect leads from https to http' } };
  const isWithoutBody =
    (status === 303 && sent.method !== 'HEAD') ||
    ((status === 301 || status === 302) && sent.method === 'POST');
  const isSameOrigin = to.origin === from.origin;
  const kept: string[] = [];
  for (let index = 0; index + 1 < sent.headers.length; index += 2) {
    const name = sent.headers[index] ?? '';
    const lower = name.toLowerCase();
    const isContent = lower.startsWith('content-');
    if (isContent && isWithoutBody) continue;
    if (isSameOrigin || plainHeaders.has(lower) || contentHeaders.has(lower))
      kept.push(name, sent.headers[index + 1] ?? '');
  }
  return {
    request: {
      method: isWithoutBody ? 'GET' : sent.method,
      url: to.href,
      headers: kept,
      body: isWithoutBody ? null : sent.body,
    },
  };
}
