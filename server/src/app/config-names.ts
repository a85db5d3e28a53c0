import { foreignNames, settingTable } from '@stoa/contracts';
import { nearestOf } from '#kernel';

/**
 * What Kubernetes (and Docker's links) put into the environment for Services whose names begin with `stoa`: they look
 * like settings and are none. `STOA_PORT=tcp://10.0.0.1:8080`, `STOA_GATEWAY_SERVICE_HOST`, `STOA_PORT_8080_TCP_ADDR`.
 */
const injected =
  /^STOA_(?:(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT)|[A-Z0-9_]+_(?:TCP|UDP|SCTP)(?:_[A-Z0-9_]+)?)$/;

const known = new Set<string>(settingTable.map((declaration) => declaration.name));

/** One sentence for each name that begins with `STOA_` and means nothing, with the nearest name that does. */
export function unknownNameWarnings(names: Iterable<string>): string[] {
  const warnings: string[] = [];
  for (const name of [...names].sort()) {
    if (isUnknown(name)) warnings.push(`${name} is no setting${suggestion(name)}`);
  }
  return warnings;
}

function isUnknown(name: string): boolean {
  if (!name.startsWith('STOA_') || name.startsWith('STOA_TEST_')) return false;
  if (known.has(name) || foreignNames.has(name) || injected.test(name)) return false;
  return !(name.endsWith('_FILE') && known.has(name.slice(0, -'_FILE'.length)));
}

function suggestion(name: string): string {
  const isFile = name.endsWith('_FILE');
  const bare = isFile ? name.slice(0, -'_FILE'.length) : name;
  const nearest = nearestOf(bare, known);
  return nearest === null ? '.' : `; did you mean ${isFile ? `${nearest}_FILE` : nearest}?`;
}
