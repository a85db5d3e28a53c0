/**
 * A plain TCP balancer for one machine: new connections go round robin to the backends that are ready. It knows nothing
 * of HTTP, so a gateway that drains tells its clients itself (`Connection: close`), and a connection that a backend
 * refuses goes to the next one before a byte of it is lost.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface Backend {
  readonly name: string;
  readonly port: number;
  /** Whether new connections may go there; whoever watches the backend sets it. */
  isReady: boolean;
  /** Connections that are open through the balancer. */
  connections: number;
}

export interface Balancer {
  readonly port: number;
  /** Takes no new connection; cuts those that are left after `graceMs`. */
  stop(graceMs: number): Promise<void>;
}

/** Listens on the loopback address; port 0 takes a free one. Rejects where the port is taken. */
export async function startBalancer(port: number, backends: readonly Backend[]): Promise<Balancer> {
  const clients = new Set<Socket>();
  let next = 0;
  const server = createServer({ pauseOnConnect: true, noDelay: true }, (client) => {
    clients.add(client);
    client.once('close', () => clients.delete(client));
    client.on('error', () => client.destroy());
    const first = next++;
    const ready = backends.filter(({ isReady }) => isReady);
    const order = ready
      .map((_, index) => ready[(first + index) % ready.length])
      .filter((one) => one !== undefined);
    tryNext(client, order);
  });
  await listen(server, port);
  const address = server.address();
  return {
    port: address !== null && typeof address === 'object' ? address.port : port,
    async stop(graceMs) {
      const closed = new Promise((resolve) => server.close(resolve));
      const cut = setTimeout(() => {
        for (const client of clients) client.destroy();
      }, graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

/** Joins the client to the first backend that takes the connection; where none does, the client is closed. */
function tryNext(client: Socket, backends: readonly Backend[]): void {
  const [backend, ...others] = backends;
  if (backend === undefined || client.destroyed) {
    client.destroy();
    return;
  }
  const upstream = connect({ host: '127.0.0.1', port: backend.port, noDelay: true });
  const refused = (): void => tryNext(client, others);
  upstream.once('error', refused);
  upstream.once('connect', () => {
    upstream.off('error', refused);
    upstream.on('error', () => client.destroy());
    backend.connections += 1;
    upstream.once('close', () => {
      backend.connections -= 1;
      // What the backend sent last may still be on its way to the client.
      client.end();
    });
    client.once('close', () => upstream.destroy());
    client.pipe(upstream);
    upstream.pipe(client);
  });
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}
