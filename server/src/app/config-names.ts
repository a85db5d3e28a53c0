import { foreignNames, settingTable } from '@stoa/contracts';

/**
 * What Kubernetes (and Docker's links) put into the environment for Services whose names begin with `stoa`: they look
 * like settings and are none. `STOA_PORT=tcp://10.0.0.1:8080`, `STOA_GATEWAY_SERVICE_HOST`, `STOA_PORT_8080_TCP_ADDR`.
 */
const injected =
  /^STOA_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;

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

/**
 * The candidate with the fewest single-character edits (swaps of neighbours count as one), or null where even the
 * nearest differs by more than a third of the word.
 */
export function nearestOf(word: string, candidates: Iterable<string>): string | null {
  let nearest: string | null = null;
  let least = Math.floor(Math.max(word.length, 3) / 3) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

function editDistance(left: string, right: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: right.length + 1 }, (_, column) => column);
  for (let row = 1; row <= left.length; row++) {
    const current = [row];
    for (let column = 1; column <= right.length; column++) {
      const isSame = left[row - 1] === right[column - 1];
      let best = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (isSame ? 0 : 1),
      );
      if (left[row - 1] === right[column - 2] && left[row - 2] === right[column - 1]) {
        best = Math.min(best, (beforeLast[column - 2] ?? Number.POSITIVE_INFINITY) + 1);
      }
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[right.length] ?? 0;
}
