/** The table of what may import what, each rule with its reason. */
import { isTestCode, type Place, type Target } from './places.ts';

/** One import, with both of its ends. */
export interface Edge {
  /** Path of the importing file below the root. */
  from: string;
  place: Place;
  /** As written; empty where it is computed at run time, and then there is no target. */
  specifier: string;
  target: Target | undefined;
  isTypeOnly: boolean;
  /** The names that are taken; undefined where it is the whole module. */
  names: readonly string[] | undefined;
}

export interface Rule {
  id: string;
  reason: string;
  isBroken: (edge: Edge) => boolean;
}

/** Clients of vendors: the package of that name, or every package of that scope. */
const vendorClients = new Set([
  '@electric-sql',
  '@opentelemetry',
  '@redis',
  'fastify',
  'kysely',
  'pg',
  'pino',
  'prom-client',
  'undici',
]);

const inputAndOutput = new Set([
  'child_process',
  'cluster',
  'dgram',
  'dns',
  'dns/promises',
  'fs',
  'fs/promises',
  'http',
  'http2',
  'https',
  'net',
  'sqlite',
  'tls',
  'worker_threads',
]);

/** What `node:net` has that opens nothing. */
const pureNetNames = new Set(['BlockList', 'isIP', 'isIPv4', 'isIPv6', 'SocketAddress']);

/** What can call the outside by itself. */
const wires = new Set(['dgram', 'dns', 'dns/promises', 'http', 'http2', 'https', 'net', 'tls']);
const httpClients = new Set([
  'axios',
  'cross-fetch',
  'got',
  'ky',
  'needle',
  'node-fetch',
  'request',
  'superagent',
  'undici',
  'undici-types',
]);

function isInputOrOutput({ target, names }: Edge): boolean {
  if (target?.kind !== 'builtin' || !inputAndOutput.has(target.name)) return false;
  return target.name !== 'net' || names === undefined || !names.every((name) => pureNetNames.has(name));
}

function canCallOut(edge: Edge): boolean {
  const { target } = edge;
  if (target?.kind === 'package') return httpClients.has(target.name);
  return target?.kind === 'builtin' && wires.has(target.name) && isInputOrOutput(edge);
}

const shipped = new Set(['server', 'contracts', 'sdk', 'cli']);

function isVendorClient({ target }: Edge): boolean {
  if (target?.kind !== 'package') return false;
  return vendorClients.has(target.name) || vendorClients.has(target.name.split('/')[0] ?? '');
}

/** A played provider and a faulty line, each plain sockets; journeys meet the very ones that the server's own tests use. */
const playedParts = new Set([
  'server/src/testing/misbehaving-upstream.ts',
  'server/src/testing/fault-proxy.ts',
]);

function isPlayedPart({ place, target }: Edge): boolean {
  return place.area === 'test' && target?.kind === 'file' && playedParts.has(target.path);
}

/** The place on the other end where it is another one of ours. */
function otherPlace({ place, target }: Edge): Place | undefined {
  return target?.kind === 'file' && target.place.name !== place.name ? target.place : undefined;
}

/** The layer of the other end where it is another folder of the same layer. */
function siblingLayer(edge: Edge): number | undefined {
  const other = otherPlace(edge);
  return other?.layer !== undefined && other.layer === edge.place.layer ? other.layer : undefined;
}

function isGenerator({ from }: Edge): boolean {
  return from.startsWith('scripts/generators/');
}

/** True when the other end is another place of ours than those named. */
function reachesBeyond(edge: Edge, ...allowed: string[]): boolean {
  const other = otherPlace(edge);
  return other !== undefined && !allowed.includes(other.area);
}

/** Holds for the file itself; where it is broken, no other rule is asked. */
export const knownPlace: Rule = {
  id: 'known-place',
  reason:
    'a file of the server lies in a layer: kernel, platform/x, control/x, services/x, app, or in testing',
  isBroken: ({ place }) => place.area === 'unknown',
};

const placeRules: Rule[] = [
  {
    id: 'stated-specifier',
    reason:
      'an import that is put together at run time can be checked by nobody; only scripts load files by name',
    isBroken: ({ place, target }) => target === undefined && place.area !== 'scripts',
  },
  {
    id: 'known-specifier',
    reason:
      'imports are relative paths, #names of server/package.json, packages and node: modules, nothing else',
    isBroken: ({ target }) => target?.kind === 'unknown',
  },
  {
    id: 'aliases-in-server',
    reason: '#names belong to the server; outside it they resolve to nothing',
    isBroken: ({ place, specifier }) => specifier.startsWith('#') && place.area !== 'server',
  },
  {
    id: 'entry-only',
    reason:
      'a folder is entered through its index.ts (#name) or what its package.json exports, so that all else in it can change freely',
    isBroken: ({ target }) => target?.kind === 'deep',
  },
  {
    id: 'stays-inside',
    reason:
      'a relative path that leaves its folder passes Node and tsc, and is a way in past the index.ts. Three may: ' +
      'journeys use scripts and the played provider and line, generators read what the server declares, test support starts the ' +
      'app, which has no #name',
    isBroken: (edge) => {
      const other = otherPlace(edge);
      if (!edge.specifier.startsWith('.') || !other) return false;
      if (edge.place.area === 'test' && other.area === 'scripts') return false;
      if (isPlayedPart(edge)) return false;
      if (isGenerator(edge) && other.area === 'server') return false;
      return !(edge.place.name === 'testing' && other.name === 'app');
    },
  },
];

const layerRules: Rule[] = [
  {
    id: 'downward',
    reason: 'imports go down a layer (kernel 0, platform 1, control 2, services 3, app 4), types too',
    isBroken: (edge) => {
      const other = otherPlace(edge);
      if (other?.layer === undefined || edge.place.layer === undefined) return false;
      return other.layer > edge.place.layer;
    },
  },
  {
    id: 'siblings-by-type',
    reason:
      'folders of layers 1 and 2 know only the types of their siblings and get the rest as deps, so that app/ decides ' +
      'what is wired to what; a test wires for itself',
    isBroken: (edge) => {
      const layer = siblingLayer(edge);
      return (layer === 1 || layer === 2) && !edge.isTypeOnly && !isTestCode(edge.from);
    },
  },
  {
    id: 'services-apart',
    reason: 'a service is handed the API of another by app/, local or remote; it knows not even its types',
    isBroken: (edge) => siblingLayer(edge) === 3,
  },
  {
    id: 'vendor-in-platform',
    reason:
      'a client of a vendor is hidden behind a port in platform/, so that it can be replaced. Query files (x.sql.ts) in ' +
      'control/ and services/ may use kysely for its sql tag and types; tests play the other side with what they like',
    isBroken: (edge) => {
      if (!isVendorClient(edge) || !shipped.has(edge.place.area)) return false;
      if (edge.place.layer === 1 || isTestCode(edge.from)) return false;
      const isQueryFile = edge.from.endsWith('.sql.ts') && [2, 3].includes(edge.place.layer ?? 0);
      return !(isQueryFile && edge.specifier === 'kysely');
    },
  },
  {
    id: 'no-input-output',
    reason: 'kernel and contracts are pure: they run anywhere, and their tests share a process',
    isBroken: (edge) =>
      (edge.place.name === 'kernel' || edge.place.name === 'contracts') &&
      isInputOrOutput(edge) &&
      !isTestCode(edge.from),
  },
  {
    id: 'outgoing-in-http',
    reason:
      'every call to the outside is made by platform/http, which knows what may be called: no other module of the server ' +
      'has an HTTP client, a socket or a name look-up of its own. Clients of databases, caches and buses are ports of ' +
      'platform/ that dial what the operator set',
    isBroken: (edge) =>
      edge.place.area === 'server' &&
      edge.place.name !== 'platform/http' &&
      canCallOut(edge) &&
      !edge.isTypeOnly &&
      !isTestCode(edge.from),
  },
];

const workspaceRules: Rule[] = [
  {
    id: 'contracts-alone',
    reason: 'contracts is the wire truth that all import; it imports nothing of ours',
    isBroken: (edge) => edge.place.area === 'contracts' && reachesBeyond(edge),
  },
  {
    id: 'sdk-on-contracts',
    reason: 'the SDK is published and runs without the rest',
    isBroken: (edge) => edge.place.area === 'sdk' && reachesBeyond(edge, 'contracts'),
  },
  {
    id: 'cli-on-sdk',
    reason: 'the CLI can do what any caller of the SDK can; it starts the server as a process',
    isBroken: (edge) => edge.place.area === 'cli' && reachesBeyond(edge, 'sdk', 'contracts'),
  },
  {
    id: 'server-on-contracts',
    reason: 'the server does not depend on its own callers, tests or tools',
    isBroken: (edge) => edge.place.area === 'server' && reachesBeyond(edge, 'server', 'contracts'),
  },
  {
    id: 'outside-stays-outside',
    reason:
      'scripts, journeys and load tests meet the server over HTTP, the SDK or its contracts, as callers do',
    isBroken: (edge) => {
      if (edge.place.area === 'scripts') {
        return reachesBeyond(edge, 'contracts', 'sdk', ...(isGenerator(edge) ? ['server'] : []));
      }
      if (isPlayedPart(edge)) return false;
      return edge.place.area === 'test' && reachesBeyond(edge, 'scripts', 'contracts', 'sdk');
    },
  },
];

const testRules: Rule[] = [
  {
    id: 'testing-from-tests',
    reason: '#testing is support for tests; production code that needs it has the wrong shape',
    isBroken: (edge) => otherPlace(edge)?.name === 'testing' && !isTestCode(edge.from),
  },
  {
    id: 'no-test-in-production',
    reason: 'nothing imports a test, and what ships imports no contract suite and no test runner',
    isBroken: ({ from, place, target }) => {
      if (target?.kind === 'file' && target.path.endsWith('.test.ts')) return true;
      if (isTestCode(from) || !shipped.has(place.area)) return false;
      if (target?.kind === 'builtin') return target.name === 'test' || target.name === 'test/reporters';
      return target?.kind === 'file' && target.place.name === place.name && isTestCode(target.path);
    },
  },
];

export const rules: readonly Rule[] = [
  knownPlace,
  ...placeRules,
  ...layerRules,
  ...workspaceRules,
  ...testRules,
];
