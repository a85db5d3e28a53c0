import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { createNetworkSet, plainAddress, readAddress, readNetwork } from '#kernel';

/**
 * Who sent a request, by address. Without trusted proxies it is the peer of the connection, and `X-Forwarded-For` is what
 * anybody may write into it. Where the peer is a trusted proxy, the header is read from its right end, since each proxy
 * appends whom it took the request from: the first address that is no trusted proxy is the client. What is left of it came
 * from the client itself and is never looked at. Where all are trusted, it is the left-most.
 *
 * Anything else than addresses on the way there (`unknown`, a name, more hops than `hopsAtMost`) makes the whole header
 * worthless, and it is the peer: rather a proxy's address, which an allow-list refuses, than a guess.
 */
export type ClientAddressOf = (request: IncomingMessage) => string;

const hopsAtMost = 32;

/**
 * @param trustedProxies addresses and CIDR blocks; none: the header is never read
 * @returns a function whose answers are plain text (see `plainAddress`); empty where the connection is gone already
 */
export function createClientAddress(trustedProxies: readonly string[]): ClientAddressOf {
  if (trustedProxies.length === 0) return peerOf;
  const trusted = createNetworkSet(
    trustedProxies.map((text) => {
      const network = readNetwork(text);
      if (network === null) throw new Error(`${JSON.stringify(text)} is no address and no CIDR block`);
      return network;
    }),
  );
  return (request) => {
    const peer = peerOf(request);
    const header = request.headers['x-forwarded-for'];
    if (header === undefined || !trusted.has(peer)) return peer;
    // Node joins repeated headers with a comma; the types allow a list.
    const hops = (typeof header === 'string' ? header : header.join(',')).split(',');
    let client = peer;
    for (let index = hops.length - 1; index >= 0; index--) {
      const address = hops.length - index > hopsAtMost ? null : addressOfHop(hops[index] ?? '');
      if (address === null) return peer;
      client = address;
      if (!trusted.has(address)) return address;
    }
    return client;
  };
}

function peerOf(request: IncomingMessage): string {
  return plainAddress(request.socket.remoteAddress ?? '');
}

/** An address, with or without a port; IPv6 has brackets where it has one. Null for anything else. */
function addressOfHop(text: string): string | null {
  const hop = text.trim();
  if (isIP(hop) !== 0) return readAddress(hop);
  const bracketed = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(hop)?.[1];
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? readAddress(bracketed) : null;
  const [address = ''] = /^[\d.]+(?=:\d{1,5}$)/.exec(hop) ?? [];
  return readAddress(address);
}
