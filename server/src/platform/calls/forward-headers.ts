import type { OutboundHeaders } from '#http';

/** Headers that belong to one connection (RFC 9110, section 7.6.1), and those that other layers set anew. */
const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/**
 * `expect` is answered here, `host` names the process, `accept-encoding` would pack what is only passed on, the ids are ours,
 * and nobody outside may claim to be the gateway.
 */
const ownOfRequest = new Set([
  ...hopByHop,
  'accept-encoding',
  'expect',
  'host',
  'x-client-request-id',
  'x-request-id',
  'x-stoa-forwarded',
]);

const ownOfAnswer = new Set([...hopByHop, 'x-client-request-id', 'x-request-id']);

/**
 * The headers of a request as they go on: in their order, repeated ones too, credentials among them, since the role checks
 * the caller's key by itself.
 * @param rawHeaders names and values in turn, as Node has them
 */
export function requestHeaders(rawHeaders: readonly string[]): string[] {
  const dropped = new Set(ownOfRequest);
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]?.toLowerCase() ?? '';
    const value = rawHeaders[index + 1] ?? '';
    pairs.push([name, value]);
    if (name === 'connection') for (const named of connectionNames(value)) dropped.add(named);
  }
  return pairs.filter(([name]) => !dropped.has(name)).flat();
}

/** The headers of an answer as they go on. */
export function answerHeaders(headers: OutboundHeaders): Record<string, string | string[]> {
  const dropped = new Set(ownOfAnswer);
  for (const named of connectionNames([headers['connection'] ?? ''].flat().join(','))) dropped.add(named);
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || dropped.has(name)) continue;
    kept[name] = typeof value === 'string' ? value : [...value];
  }
  return kept;
}

/** What `Connection` names may be dropped on the way; the length of the body and the credential may not. */
function connectionNames(value: string): string[] {
  const kept = new Set(['content-length', 'authorization', 'content-type']);
  return value
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '' && !kept.has(name));
}
