import type { ServiceApi } from '@stoa/contracts';
import {
  type ClusterSigner,
  codecService,
  createDestinations,
  type Destinations,
  localService,
  remoteService,
  type ServiceOf,
} from '#calls';
import type { OutboundClient } from '#http';
import type { Clock, Logger } from '#kernel';

/** Where a service is: in this process, or at the addresses of its role's processes (none: it is away). */
export type ServicePlace<Api extends ServiceApi> =
  | { readonly local: ServiceOf<Api> }
  | { readonly url: string | readonly string[] };

/** Gives a service to those who call it; they cannot tell where it is. */
export type Bind = <Api extends ServiceApi>(api: Api, place: ServicePlace<Api>) => ServiceOf<Api>;

export interface BindDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly outbound: OutboundClient;
  /** Null where there is no cluster secret: then nothing can be called that is elsewhere. */
  readonly signer: ClusterSigner | null;
  /** `codec` sends local calls through the codec and makes idempotent ones twice: for tests. */
  readonly localCalls: 'plain' | 'codec';
}

/** Services at the same addresses share their breakers. */
export function createBind(deps: BindDeps): Bind {
  const { clock, logger, outbound, signer } = deps;
  const shared = new Map<string, Destinations>();
  const destinationsOf = (role: string, urls: readonly string[]): Destinations => {
    const key = `${role} ${urls.join(' ')}`;
    const found = shared.get(key) ?? createDestinations(role, urls, clock);
    shared.set(key, found);
    return found;
  };
  return (api, place) => {
    if ('local' in place) {
      const make = deps.localCalls === 'codec' ? codecService : localService;
      return make(api, place.local, clock);
    }
    if (signer === null && place.url.length > 0) {
      throw new RangeError(`${api.service} is elsewhere, and there is no cluster secret to call it with`);
    }
    const urls = typeof place.url === 'string' ? [place.url] : place.url;
    return remoteService(api, destinationsOf(api.service, urls), { outbound, signer, clock, logger });
  };
}
