import { createNetworkSet, type Network, type NetworkSet, readNetwork } from '#kernel';
import { addressMeant } from './addresses.ts';

/** The ports that may be called on a public address without being listed. */
export const openPorts: ReadonlySet<number> = new Set([80, 443, 8080, 8443]);

/**
 * What passes although it would be refused. An entry is a host (`hooks.internal`), every host below a name
 * (`*.corp.example.com`), an address, or a CIDR block, each with a port (`hooks.internal:9443`, `10.0.0.0/8:9443`,
 * `[fd00::5]:9443`) or `:*` for every port; without one it is for the open ports.
 *
 * A host lets its name pass and whatever it resolves to. An address or block lets a URL with such an address pass, and a
 * name that resolves into it on an open port: another port of a name takes an entry of the name.
 */
export interface AllowList {
  /** Whether the name (or the literal address) passes by an entry for hosts. */
  hasHost(host: string, port: number): boolean;
  /** Whether the address passes by an entry for addresses. */
  hasAddress(address: string, port: number): boolean;
}

export type AllowListReading =
  | { readonly list: AllowList }
  | { readonly faults: readonly { readonly entry: string; readonly fault: string }[] };

/** `open` are the open ports. */
type PortRule = number | 'open' | 'any';

interface HostEntry {
  readonly host: string;
  /** True for `*.name`: whatever lies below it, not the name itself. */
  readonly isBelow: boolean;
  readonly port: PortRule;
}

interface AddressEntry {
  readonly network: Network;
  readonly port: PortRule;
}

const hostForm =
  /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** Reads entries; all faults together. An empty list lets nothing pass. */
export function readAllowList(entries: readonly string[]): AllowListReading {
  const hosts: HostEntry[] = [];
  const addresses: AddressEntry[] = [];
  const faults: { entry: string; fault: string }[] = [];
  for (const entry of entries) {
    const read = readEntry(entry.trim().toLowerCase());
    if (read === null)
      faults.push({
        entry,
        fault: 'is no host, host:port, *.name, address or CIDR block',
      });
    else if ('network' in read) addresses.push(read);
    else hosts.push(read);
  }
  return faults.length > 0 ? { faults } : { list: createAllowList(hosts, addresses) };
}

export const emptyAllowList: AllowList = { hasHost: () => false, hasAddress: () => false };

function createAllowList(hosts: readonly HostEntry[], addresses: readonly AddressEntry[]): AllowList {
  const sets = new Map<PortRule, NetworkSet>();
  for (const port of new Set(addresses.map((entry) => entry.port))) {
    const networks = addresses.filter((entry) => entry.port === port).map(({ network }) => network);
    sets.set(port, createNetworkSet(networks));
  }
  return {
    hasHost: (host, port) => hosts.some((entry) => isFor(entry.port, port) && isHost(entry, host)),
    hasAddress(address, port) {
      const meant = addressMeant(address);
      for (const [rule, set] of sets) if (isFor(rule, port) && set.has(meant)) return true;
      return false;
    },
  };
}

function isFor(rule: PortRule, port: number): boolean {
  if (rule === 'any') return true;
  return rule === 'open' ? openPorts.has(port) : rule === port;
}

function isHost(entry: HostEntry, host: string): boolean {
  return entry.isBelow ? host.endsWith(`.${entry.host}`) : host === entry.host;
}

function readEntry(text: string): HostEntry | AddressEntry | null {
  const plain = readNetwork(text);
  if (plain !== null) return plain.hasHostBits ? null : { network: plain, port: 'open' };
  const { head, port } = splitPort(text);
  if (port === null) return null;
  const network = readNetwork(head);
  if (network !== null) return network.hasHostBits ? null : { network, port };
  // Digits and dots alone are an odd form of an address, which a URL is never left with.
  if (!hostForm.test(head) || /^[\d.]+$/.test(head)) return null;
  const isBelow = head.startsWith('*.');
  return { host: isBelow ? head.slice(2) : head, isBelow, port };
}

/** `name:1`, `[v6]:1`, `block:*`. The port is null where it is none. */
function splitPort(text: string): { head: string; port: PortRule | null } {
  const match = /^(?:\[([^\]]+)\](\/\d+)?|([^:[\]]+))(?::(\d{1,5}|\*))?$/.exec(text);
  if (match === null) return { head: '', port: null };
  const [, inBrackets, prefix = '', bare = '', portText] = match;
  const head = inBrackets === undefined ? bare : `${inBrackets}${prefix}`;
  if (portText === undefined) return { head, port: 'open' };
  if (portText === '*') return { head, port: 'any' };
  const port = Number(portText);
  return { head, port: port >= 1 && port <= 65_535 ? port : null };
}
