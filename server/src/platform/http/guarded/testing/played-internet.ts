/**
 * The internet of a test: names by a table, and every connection that the client would open goes to one server of the
 * test instead, whatever address it was to. So a test sees which addresses would have been connected to, and no packet
 * leaves the machine. It stands where Node opens sockets, below everything that it tests.
 */
import { mock } from 'node:test';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { isIP, type LookupFunction, Socket } from 'node:net';
import { createSecureContext, getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { Resolve } from '../resolve.ts';

export interface PlayedInternet {
  /** Answers with the next list of the name each time, with the last one from then on; rejects for other names. */
  readonly resolve: Resolve;
  /** The addresses that a connection was opened to, in order; of one with several the first. */
  readonly dialled: string[];
  /** How often a name was looked up. */
  readonly lookups: string[];
  close(): Promise<void>;
}

interface Certificate {
  readonly cert: string;
  readonly key: string;
}

type Answers = Readonly<Record<string, readonly (readonly string[])[]>>;

interface Dial {
  readonly host: string;
  readonly lookup: LookupFunction | null;
}

/** What a socket is asked to connect to; null where it is no TCP connection. */
function dialOf(argument: unknown): Dial | null {
  const first: unknown = Array.isArray(argument) ? argument[0] : argument;
  if (typeof first !== 'object' || first === null || !('host' in first) || typeof first.host !== 'string')
    return null;
  return { host: first.host, lookup: 'lookup' in first ? lookupOf(first.lookup) : null };
}

function lookupOf(value: unknown): LookupFunction | null {
  return typeof value === 'function'
    ? (host, options, callback) => void Reflect.apply(value, null, [host, options, callback])
    : null;
}

function addressesOf(lookup: LookupFunction, host: string): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    lookup(host, { all: true }, (error, found) => {
      if (error !== null) reject(error);
      else resolve(typeof found === 'string' ? [found] : found.map(({ address }) => address));
    });
  });
}

async function portOf(server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** `certificates` are of the names that are called over https. */
export async function playInternet(
  answers: Answers,
  respond: RequestListener,
  certificates: Readonly<Record<string, Certificate>> = {},
): Promise<PlayedInternet> {
  const handle = (request: IncomingMessage, response: ServerResponse): void => respond(request, response);
  const plain = createServer(handle);
  const [anyCertificate] = Object.values(certificates);
  const secure = createSecureServer(
    {
      ...anyCertificate,
      SNICallback: (name, callback) => {
        const certificate = certificates[name];
        if (certificate === undefined) callback(new Error(`no certificate of ${name}`));
        else callback(null, createSecureContext(certificate));
      },
    },
    handle,
  );
  const trusted = getCACertificates('default');
  setDefaultCACertificates([...trusted, ...Object.values(certificates).map(({ cert }) => cert)]);
  const ports = { plain: await portOf(plain), secure: await portOf(secure) };
  const dialled: string[] = [];
  const lookups: string[] = [];
  const connect = Socket.prototype.connect;
  const played = mock.method(
    Socket.prototype,
    'connect',
    function playedConnect(this: Socket, ...given: unknown[]) {
      const dial = dialOf(given[0]);
      if (dial === null) {
        Reflect.apply(connect, this, given);
        return this;
      }
      const { host, lookup } = dial;
      const found = isIP(host) === 0 && lookup !== null ? addressesOf(lookup, host) : Promise.resolve([host]);
      found.then(
        ([first = 'none']) => {
          dialled.push(first);
          const isSecure = 'encrypted' in this;
          const to = { host: '127.0.0.1', port: isSecure ? ports.secure : ports.plain };
          Reflect.apply(connect, this, [to, ...given.slice(1)]);
        },
        (error: unknown) => this.destroy(error instanceof Error ? error : new Error(String(error))),
      );
      return this;
    },
  );
  return {
    dialled,
    lookups,
    resolve(name) {
      const rounds = answers[name];
      const round = lookups.filter((other) => other === name).length;
      lookups.push(name);
      const found = rounds?.[Math.min(round, rounds.length - 1)];
      return found === undefined ? Promise.reject(new Error(`${name} is not known`)) : Promise.resolve(found);
    },
    async close() {
      played.mock.restore();
      setDefaultCACertificates(trusted);
      for (const server of [plain, secure]) {
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        await closed;
      }
    },
  };
}
