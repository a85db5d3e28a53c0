/** Every HTTP operation that contracts exports. */
import * as contracts from '@stoa/contracts';
import type { Endpoint } from '@stoa/contracts';

function isEndpoint(value: unknown): value is Endpoint {
  return typeof value === 'object' && value !== null && 'method' in value && 'listener' in value;
}

/**
 * What is wrong with whom an operation lets in: the public listener serves tenants, the admin listener the operator, and
 * what changes something is never a matter of reading.
 */
function accessFault({ id, listener, method, access }: Endpoint): string | null {
  if (access === 'anyone') return null;
  const { permission } = access;
  if (listener === 'public')
    return contracts.isPermission(permission) ? null : `${id}: ${permission} is no permission of tenants`;
  if (!contracts.isOperatorPermission(permission))
    return `${id}: ${permission} is no permission of the operator`;
  const wanted = method === 'GET' ? 'control:read' : 'control:write';
  return permission === wanted ? null : `${id}: ${method} needs ${wanted}, not ${permission}`;
}

/** Every endpoint once, by path and method. Throws where two share an id or a place, or one lets in the wrong callers. */
export function listEndpoints(): Endpoint[] {
  const exported: unknown[] = Object.values(contracts);
  const endpoints = exported.filter(isEndpoint);
  const places = endpoints.map(({ listener, method, path }) => `${listener} ${method} ${path}`);
  const doubled = [...places, ...endpoints.map(({ id }) => id)].filter(
    (name, at, all) => all.indexOf(name) < at,
  );
  if (doubled.length > 0) throw new Error(`declared twice: ${doubled.join(', ')}`);
  const faults = endpoints.map(accessFault).filter((fault) => fault !== null);
  if (faults.length > 0) throw new Error(faults.join('\n'));
  return endpoints.toSorted((a, b) => (a.path + a.method).localeCompare(b.path + b.method, 'en'));
}
