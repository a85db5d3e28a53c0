import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `open` passes all, `refusing` closes what is there and what comes, `silent` takes connections and bytes and passes none. */
export type RelayMode = 'open' | 'refusing' | 'silent';

/** A TCP line in front of a server that a test can cut, silence and mend. */
export interface TcpRelay {
  /** The server's URL by way of the relay. */
  readonly url: string;
  /** Connections that were taken so far. */
  readonly connections: number;
  set(mode: RelayMode): void;
  close(): Promise<void>;
}

/** A relay on loopback to the host and port of `target`. */
export async function openTcpRelay(target: string, defaultPort: number): Promise<TcpRelay> {
  const { hostname, port } = new URL(target);
  const pairs = new Map<Socket, Socket>();
  let mode: RelayMode = 'open';
  let connections = 0;
  const cut = (): void => {
    for (const [inner, outer] of pairs) {
      inner.destroy();
      outer.destroy();
    }
    pairs.clear();
  };
  const server = createServer((inner) => {
    inner.on('error', () => inner.destroy());
    if (mode === 'refusing') {
      inner.destroy();
      return;
    }
    connections += 1;
    const outer = connect({ host: hostname, port: Number(port || defaultPort) });
    pairs.set(inner, outer);
    const pass = (from: Socket, to: Socket): void => {
      from.on('data', (part) => {
        if (mode === 'open') to.write(part);
      });
      from.on('error', () => from.destroy());
      from.on('close', () => {
        pairs.delete(inner);
        to.destroy();
      });
    };
    pass(inner, outer);
    pass(outer, inner);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(portOf(server));
  return {
    url: url.href,
    get connections() {
      return connections;
    },
    set(next) {
      mode = next;
      if (next === 'refusing') cut();
    },
    async close() {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
