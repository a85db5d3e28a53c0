import * as contracts from '@stoa/contracts';

/** Every operation of the contracts, found by its shape, so that a new one is tested without being named. */
export const everyEndpoint: readonly contracts.Endpoint[] = exportsOfContracts().filter(isEndpoint);

function exportsOfContracts(): readonly unknown[] {
  return Object.values(contracts);
}

function isEndpoint(value: unknown): value is contracts.Endpoint {
  return typeof value === 'object' && value !== null && 'listener' in value && 'path' in value;
}

/** The endpoint's path with the ids of its example, or with those given. */
export function pathOf(endpoint: contracts.Endpoint, params: Readonly<Record<string, string>> = {}): string {
  return endpoint.path.replaceAll(
    /\{(\w+)\*?\}/g,
    (_, name: string) => params[name] ?? endpoint.example.params?.[name] ?? 'x',
  );
}
