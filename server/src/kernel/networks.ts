import { BlockList, isIP, SocketAddress } from 'node:net';

/**
 * Addresses and CIDR blocks of both families, for lists of who is let in or believed.
 *
 * One text for one address: IPv6 in its short form (RFC 5952), without a zone, and an IPv4 address that arrives as
 * `::ffff:192.0.2.1` is IPv4, since that is how a dual-stack socket shows it. The families have a list each: Node's
 * BlockList reads an IPv4 address as a mapped one, so that `::/0` in one list for both would let every IPv4 address in.
 */
export interface Network {
  readonly family: 'ipv4' | 'ipv6';
  /** The first address of the block. */
  readonly address: string;
  readonly prefix: number;
  /** Whether the text named another address of the block than its first, as `10.1.2.3/8` does. */
  readonly hasHostBits: boolean;
}

export interface NetworkSet {
  /** Whether an address in its plain text (`plainAddress`) lies in one of the networks; false for what is no address. */
  has(address: string): boolean;
}

const mappedPrefix = '::ffff:';

/** An address as the system shows it (a socket's), without its zone and unmapped. Cheap: it checks nothing. */
export function plainAddress(address: string): string {
  const zone = address.indexOf('%');
  const bare = zone === -1 ? address : address.slice(0, zone);
  return bare.startsWith(mappedPrefix) && bare.includes('.') ? bare.slice(mappedPrefix.length) : bare;
}

/** The one text of an address that somebody wrote, or null where it is none or has a zone. */
export function readAddress(text: string): string | null {
  const version = isIP(text);
  if (version === 4) return text;
  if (version === 0 || text.includes('%')) return null;
  return plainAddress(new SocketAddress({ address: text, family: 'ipv6' }).address);
}

/** Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`; an IPv4 block that is written as IPv6 is IPv4. Null for all else. */
export function readNetwork(text: string): Network | null {
  const [head = '', prefixText, ...rest] = text.split('/');
  const version = isIP(head);
  if (version === 0 || head.includes('%') || rest.length > 0) return null;
  if (prefixText !== undefined && !/^(?:0|[1-9]\d{0,2})$/.test(prefixText)) return null;
  const bytes = version === 4 ? bytesOfIpv4(head) : bytesOfIpv6(head);
  const bits = bytes.length * 8;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  if (prefix > bits) return null;
  const isMapped = bits === 128 && prefix >= 96 && isMappedIpv4(bytes);
  return isMapped ? networkOf(bytes.slice(12), prefix - 96) : networkOf(bytes, prefix);
}

/** `192.0.2.0/24`; the inverse of `readNetwork`. */
export function networkText({ address, prefix }: Network): string {
  return `${address}/${prefix}`;
}

export function createNetworkSet(networks: readonly Network[]): NetworkSet {
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const { family, address, prefix } of networks) lists[family].addSubnet(address, prefix, family);
  return {
    has(address) {
      const version = isIP(address);
      if (version === 0 || address.includes('%')) return false;
      return version === 4 ? lists.ipv4.check(address, 'ipv4') : lists.ipv6.check(address, 'ipv6');
    },
  };
}

function networkOf(bytes: readonly number[], prefix: number): Network {
  const first = bytes.map((byte, index) => byte & (0xff << Math.max(0, 8 - Math.max(0, prefix - index * 8))));
  return {
    family: bytes.length === 4 ? 'ipv4' : 'ipv6',
    address: bytes.length === 4 ? first.join('.') : textOfIpv6(first),
    prefix,
    hasHostBits: first.some((byte, index) => byte !== bytes[index]),
  };
}

function isMappedIpv4(bytes: readonly number[]): boolean {
  return bytes.every((byte, index) => index > 11 || byte === (index < 10 ? 0 : 0xff));
}

function bytesOfIpv4(text: string): number[] {
  return text.split('.').map(Number);
}

function bytesOfIpv6(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const front = bytesOfGroups(head);
  const back = tail === undefined ? [] : bytesOfGroups(tail);
  return [...front, ...Array.from({ length: 16 - front.length - back.length }, () => 0), ...back];
}

function bytesOfGroups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return bytesOfIpv4(group);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

function textOfIpv6(bytes: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[index * 2] ?? 0) << 8) | (bytes[index * 2 + 1] ?? 0)).toString(16),
  );
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}
