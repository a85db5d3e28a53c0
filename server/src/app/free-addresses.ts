import type { Settings } from '@stoa/contracts';
import { faultOfAddress } from '#http';
import { AppError } from '#kernel';

/**
 * Takes each address that the process will listen on for a moment, before it opens or changes anything. Throws
 * `address_unavailable` with all those that can't be had, each with its setting. Another process may still be quicker between
 * this and the listener.
 */
export async function checkAddresses({
  listen,
  adminListen,
  clusterListen,
}: Pick<Settings, 'listen' | 'adminListen' | 'clusterListen'>): Promise<void> {
  const addresses = [
    ['STOA_LISTEN', listen],
    ['STOA_ADMIN_LISTEN', adminListen],
    ['STOA_CLUSTER_LISTEN', clusterListen],
  ] as const;
  const found = await Promise.all(
    addresses.map(async ([name, address]) => {
      if (address === null || address.port === 0) return [];
      const fault = await faultOfAddress(address.host, address.port);
      if (fault === null) return [];
      return [`${address.host}:${address.port} ${fault}; choose another address with ${name}.`];
    }),
  );
  const faults = found.flat();
  if (faults.length > 0) throw new AppError('address_unavailable', faults.join(' '));
}
