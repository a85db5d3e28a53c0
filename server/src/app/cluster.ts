import type { IncomingMessage } from 'node:http';
import type { Settings } from '@stoa/contracts';
import {
  type ClusterSecrets,
  createClusterSigner,
  createClusterVerifier,
  createDestinations,
  createForward,
  createReceiver,
  forwardedHeader,
  type ServedApi,
} from '#calls';
import type { Forwarded, OutboundClient, RelayRoute } from '#http';
import type { Clock, Logger } from '#kernel';
import { type Bind, createBind } from './bind.ts';
import { readRoleUrls, type RoleUrls } from './role-urls.ts';
import { type RoleTable, roleTable } from './roles.ts';

/** What a process has to do with the others of its cluster. */
export interface Cluster {
  readonly bind: Bind;
  readonly urls: RoleUrls;
  /** For the tenants' listener: what belongs to roles that have no code here. Empty outside the role `gateway`. */
  readonly forwards: readonly RelayRoute[];
  /** For the listener inside the cluster, or null where none opens. */
  readonly listener: ClusterListener | null;
}

export interface ClusterListener {
  readonly address: { readonly host: string; readonly port: number };
  readonly relays: readonly RelayRoute[];
  readonly readForwarded: (request: IncomingMessage) => Forwarded | null;
}

export interface ClusterDeps {
  readonly settings: Pick<Settings, 'clusterSecret' | 'clusterSecretPrevious' | 'clusterListen' | 'roleUrls'>;
  /** Roles that have code in this process. */
  readonly roles: readonly string[];
  readonly outbound: OutboundClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What this process serves to others. */
  readonly services: readonly ServedApi[];
  /** Default: the roles that there are. */
  readonly table?: RoleTable;
}

/**
 * Calls between processes, wired: how this one calls others, what it forwards, and what it answers to them. The settings
 * were checked at start (config-rules.ts): what is set here has the secret that it needs.
 */
export function createCluster(deps: ClusterDeps): Cluster {
  const { settings, outbound, clock, logger, table = roleTable } = deps;
  const secrets = secretsOf(settings);
  const signer = secrets === null ? null : createClusterSigner(secrets, clock);
  const read = readRoleUrls(settings.roleUrls, Object.keys(table));
  const urls: RoleUrls = 'urls' in read ? read.urls : new Map();
  return {
    bind: createBind({ clock, logger, outbound, signer, localCalls: 'plain' }),
    urls,
    forwards: deps.roles.includes('gateway')
      ? Object.entries(table)
          .filter(([role]) => !deps.roles.includes(role))
          .flatMap(([role, { prefixes, silenceMs }]) => {
            const destinations = createDestinations(role, urls.get(role) ?? [], clock);
            return prefixes.map((word) =>
              createForward({ outbound, signer, logger }, destinations, {
                prefix: `/v1/${word}`,
                timeoutMs: silenceMs,
              }),
            );
          })
      : [],
    listener: secrets === null ? null : listenerOf(deps, secrets),
  };
}

function secretsOf({ clusterSecret, clusterSecretPrevious }: ClusterDeps['settings']): ClusterSecrets | null {
  return clusterSecret === null ? null : { current: clusterSecret, previous: clusterSecretPrevious };
}

function listenerOf(
  { settings, clock, logger, services }: ClusterDeps,
  secrets: ClusterSecrets,
): ClusterListener | null {
  if (settings.clusterListen === null) return null;
  const verifier = createClusterVerifier(secrets, clock);
  return {
    address: settings.clusterListen,
    relays: [createReceiver({ verifier, clock, logger }, services)],
    readForwarded: ({ method = '', url = '', headers }) => {
      const header = headers[forwardedHeader];
      return verifier.readForwarded(method, url, typeof header === 'string' ? header : undefined);
    },
  };
}
