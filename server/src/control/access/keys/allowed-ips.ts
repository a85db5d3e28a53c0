import { AppError, createNetworkSet, type Network, type NetworkSet, networkText, readNetwork } from '#kernel';

/** Where a key may be used from: CIDR blocks as people write them, as they are stored, and as they are asked. */

/**
 * The blocks in their one text, none twice.
 * @throws AppError `invalid_request` for what is no block, and for an address with a prefix that names a whole block of
 *   others: it would let in far more than whoever wrote it may have meant
 */
export function readAllowedIps(texts: readonly string[] | null): string[] | null {
  if (texts === null) return null;
  const read = texts.map((text, index) => {
    const param = `allowed_ips[${index}]`;
    const network = readNetwork(text);
    if (network === null) {
      const message = `${param}: must be an address or a CIDR block, such as 192.0.2.0/24 or 2001:db8::/32.`;
      throw new AppError('invalid_request', message, { param });
    }
    if (network.hasHostBits) {
      const message = `${param}: the block is ${networkText(network)}; write that, or the address without a prefix.`;
      throw new AppError('invalid_request', message, { param });
    }
    return networkText(network);
  });
  return [...new Set(read)];
}

/** What stored blocks admit; null for everywhere. A block that can't be read admits nobody. */
export function allowedNetworks(stored: readonly string[] | null): NetworkSet | null {
  return stored === null ? null : createNetworkSet(networksOf(stored));
}

/** Whether each of the inner blocks lies in one of the outer. */
export function areWithin(inner: readonly string[], outer: readonly string[]): boolean {
  const around = networksOf(outer);
  return inner.every((text) => {
    const network = readNetwork(text);
    return (
      network !== null &&
      around.some(
        (one) =>
          one.family === network.family &&
          one.prefix <= network.prefix &&
          createNetworkSet([one]).has(network.address),
      )
    );
  });
}

function networksOf(texts: readonly string[]): readonly Network[] {
  return texts.map(readNetwork).filter((network) => network !== null);
}
