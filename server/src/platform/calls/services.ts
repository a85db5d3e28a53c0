import type { ServiceApi } from '@stoa/contracts';
import type { Clock } from '#kernel';
import { runBounded } from './call-context.ts';
import type { PlainService, ServedApi, ServiceOf } from './types.ts';

/** A service that runs in this process, as the receiving side takes it. */
export function serveApi<Api extends ServiceApi>(api: Api, service: ServiceOf<Api>): ServedApi;
export function serveApi(api: ServiceApi, service: PlainService): ServedApi {
  return { api, service };
}

/**
 * A service of this process for its callers: plain calls, with the same deadlines and the same kinds of error as over HTTP,
 * so that moving the service away changes nothing. Values are passed as they are, unchecked and uncopied.
 */
export function localService<Api extends ServiceApi>(
  api: Api,
  service: ServiceOf<Api>,
  clock: Clock,
): ServiceOf<Api>;
export function localService(api: ServiceApi, service: PlainService, clock: Clock): PlainService {
  return eachMethod(api, (name, method) => {
    const run = methodOf(service, api.service, name);
    const place = `${api.service}.${name}`;
    return (input, call) =>
      runBounded(clock, place, method.timeoutMs, call, (bounded) => run(input, bounded));
  });
}

/** An object with a function for each method of the API. */
export function eachMethod(
  api: ServiceApi,
  make: (name: string, method: ServiceApi['methods'][string]) => PlainService[string],
): PlainService {
  return Object.freeze(
    Object.fromEntries(Object.entries(api.methods).map(([name, method]) => [name, make(name, method)])),
  );
}

/** A method of a service, with the service as its `this`. @throws TypeError where the service lacks it */
export function methodOf(service: PlainService, serviceName: string, name: string): PlainService[string] {
  const found = service[name];
  if (typeof found !== 'function') throw new TypeError(`${serviceName} does not implement ${name}`);
  return (input, call) => found.call(service, input, call);
}
