/**
 * Which addresses a call for a tenant may go to: those that the whole internet can reach, and no other.
 *
 * Source: the IANA registries of special-purpose addresses for IPv4 and IPv6, and of IPv6 address space. What a registry
 * lists is refused even where it says "globally reachable" (AS112, AMT, ORCHID): nobody's web server lives there. Of
 * IPv6 only 2000::/3 is given out at all, so that all else is refused without being listed (loopback, IPv4-compatible
 * and IPv4-translated forms, unique local, link-local, site-local, multicast, SRv6).
 *
 * Addresses that carry an IPv4 one: the mapped form is what a dual-stack socket calls IPv4 and is judged as that.
 * 64:ff9b::/96 (NAT64) is how a network without IPv4 reaches public IPv4 servers, so it is judged by what it carries.
 * 6to4 and Teredo are refused whole: what they carry decides where a relay sends the packet, and no server needs them.
 * ISATAP has no prefix of its own, its mark stands in the lower half.
 */
import { BlockList, isIP, SocketAddress } from 'node:net';

type Block = readonly [address: string, prefix: number];

const specialIpv4: readonly Block[] = [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // shared by carriers; a cloud's metadata at 100.100.100.200
  ['127.0.0.0', 8], // loopback
  ['168.63.129.16', 32], // in no registry: a cloud's own host, from inside its machines
  ['169.254.0.0', 16], // link-local; metadata of most clouds at 169.254.169.254
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // IETF protocols; a cloud's metadata at 192.0.0.192
  ['192.0.2.0', 24], // documentation
  ['192.31.196.0', 24], // AS112
  ['192.52.193.0', 24], // AMT
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['192.175.48.0', 24], // AS112
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, limited broadcast
];

/** The part of IPv6 that is given out to networks, and what in it is not. */
const givenOutIpv6: Block = ['2000::', 3];
const specialIpv6: readonly Block[] = [
  ['2001::', 23], // IETF protocols: Teredo, benchmarks, AMT, ORCHID, DET
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['2620:4f:8000::', 48], // AS112
  ['3fff::', 20], // documentation
];

const nat64: Block = ['64:ff9b::', 96];
const mapped: Block = ['::ffff:0:0', 96];

function listOf(family: 'ipv4' | 'ipv6', blocks: readonly Block[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of blocks) list.addSubnet(address, prefix, family);
  return list;
}

// Lists of one family each: Node reads an IPv4 address in a list of IPv6 blocks as a mapped one.
const refusedIpv4 = listOf('ipv4', specialIpv4);
const refusedIpv6 = listOf('ipv6', specialIpv6);
const publicIpv6 = listOf('ipv6', [givenOutIpv6]);
const nat64List = listOf('ipv6', [nat64]);
const mappedList = listOf('ipv6', [mapped]);

/** The last 32 bits of an IPv6 address as dotted IPv4. */
function lastBytes(address: string): string {
  const text = new SocketAddress({ address, family: 'ipv6' }).address;
  const dotted = text.slice(text.lastIndexOf(':') + 1);
  if (dotted.includes('.')) return dotted;
  const [high = 0, low = 0] = groupsOf(text).slice(6);
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

/** The eight groups of an IPv6 address without a dotted part. */
function groupsOf(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const read = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const front = read(head);
  const back = tail === undefined ? [] : read(tail);
  return [...front, ...Array.from({ length: 8 - front.length - back.length }, () => 0), ...back];
}

/** Whether the lower half says that it tunnels to an IPv4 address (ISATAP, RFC 5214). */
function isIsatap(address: string): boolean {
  const text = new SocketAddress({ address, family: 'ipv6' }).address;
  if (text.includes('.')) return false;
  const [high, mark] = groupsOf(text).slice(4);
  return (high === 0 || high === 0x200) && mark === 0x5efe;
}

/** The IPv4 address that a mapped or NAT64 one stands for, else the address itself. Anything but an address comes back. */
export function addressMeant(address: string): string {
  if (isIP(address) !== 6 || address.includes('%')) return address;
  const carriesIpv4 = mappedList.check(address, 'ipv6') || nat64List.check(address, 'ipv6');
  return carriesIpv4 ? lastBytes(address) : address;
}

/** Whether the whole internet can reach this address. False for what is no address, or has a zone. About 2 us, of IPv6 15. */
export function isPublicAddress(address: string): boolean {
  const meant = addressMeant(address);
  const version = isIP(meant);
  if (version === 4) return !refusedIpv4.check(meant, 'ipv4');
  if (version === 0 || meant.includes('%')) return false;
  return publicIpv6.check(meant, 'ipv6') && !refusedIpv6.check(meant, 'ipv6') && !isIsatap(meant);
}
