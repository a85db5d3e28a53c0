/**
 * Whose address it is, for limits: IPv4 as it is, IPv6 by its first 64 bits, since who has one such address has them all.
 * @param address plain text as in `RequestContext.clientAddress`
 */
export function sourceOf(address: string): string {
  if (!address.includes(':')) return address === '' ? 'unknown' : address;
  const [head = '', tail] = address.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - first.length - last.length);
  const groups = [...first, ...Array.from({ length: zeros }, () => '0'), ...last];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
