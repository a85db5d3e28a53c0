import { lookup, Resolver } from 'node:dns/promises';

/**
 * The addresses of a name; rejects where there are none. `isListed` says that the operator let this very name pass.
 *
 * A tenant's name is asked of the DNS servers directly: Node's usual look-up runs on the four threads that files are read
 * and written with, so that a tenant's slow DNS server would hold the journal up, and it reads this machine's hosts file
 * and search list, which are none of a tenant's business. Names that the operator listed are just what those are for.
 */
export type Resolve = (name: string, isListed: boolean) => Promise<readonly string[]>;

/** `servers` are `address:port` of DNS servers; by default those of this machine. A silent one is given up after 6 s. */
export function createResolve(servers?: readonly string[]): Resolve {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  if (servers !== undefined) resolver.setServers(servers);
  return async (name, isListed) => {
    if (isListed) return (await lookup(name, { all: true })).map(({ address }) => address);
    const [ipv4, ipv6] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    const found = [ipv4, ipv6].flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (found.length === 0 && ipv4.status === 'rejected') throw ipv4.reason;
    return found;
  };
}
