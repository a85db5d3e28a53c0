import type { OutboundHeaders } from '../outbound-types.ts';
import type { GuardedAnswer, GuardedFetchInit, GuardedRequest } from './guarded-types.ts';

type Call = (
  request: Pick<GuardedRequest, 'method' | 'url' | 'headers' | 'body' | 'signal'>,
) => Promise<GuardedAnswer>;

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const;
const statusesWithoutBody: ReadonlySet<number> = new Set([204, 205, 304]);

/** The part of the global fetch that libraries use. Rejects with a TypeError where no whole answer came, as fetch does. */
export function guardedFetch(call: Call): (url: string, init?: GuardedFetchInit) => Promise<Response> {
  return async (url, init = {}) => {
    const method = methods.find((known) => known === (init.method ?? 'GET').toUpperCase());
    if (method === undefined) throw new TypeError(`the method ${init.method ?? ''} is not sent`);
    const { signal } = init;
    const answer = await call({
      method,
      url,
      headers: [...new Headers(init.headers)].flat(),
      body: init.body === null || init.body === undefined ? null : Buffer.from(init.body),
      ...(signal ? { signal } : {}),
    });
    if (answer.outcome === 'refused') throw new TypeError(answer.refusal.detail);
    if (answer.outcome === 'failed') throw new TypeError(`${answer.fault.kind}: ${answer.fault.detail}`);
    const { status } = answer;
    // What a Response does not take (a server may write any three digits) is no answer that a library could read.
    if (status < 200 || status > 599) throw new TypeError(`unreadable: the status ${status} is none`);
    return new Response(statusesWithoutBody.has(status) ? null : new Uint8Array(answer.body), {
      status,
      headers: plainHeaders(answer.headers),
    });
  };
}

function plainHeaders(headers: OutboundHeaders): Headers {
  const plain = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    for (const one of typeof value === 'string' ? [value] : (value ?? [])) plain.append(name, one);
  }
  return plain;
}
