import { once } from 'node:events';
import { createServer } from 'node:net';

/** What the system says of an address that can't be listened on. */
const addressFaults: ReadonlyMap<unknown, string> = new Map([
  ['EADDRINUSE', 'is in use by another process'],
  ['EADDRNOTAVAIL', 'is no address of this machine'],
  ['EACCES', 'may not be listened on by this user'],
]);

/** What is wrong with an address that could not be listened on, or null for any other error. */
export function addressFault(error: unknown): string | null {
  if (!(error instanceof Error) || !('syscall' in error) || error.syscall !== 'listen') return null;
  return ('code' in error ? addressFaults.get(error.code) : undefined) ?? null;
}

/** Listens on the address for a moment: what keeps a listener from it, or null. */
export async function faultOfAddress(host: string, port: number): Promise<string | null> {
  const probe = createServer();
  try {
    probe.listen({ host, port, exclusive: true });
    await once(probe, 'listening');
    return null;
  } catch (error) {
    return addressFault(error);
  } finally {
    probe.close();
  }
}
