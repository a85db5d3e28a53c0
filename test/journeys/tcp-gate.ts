import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A door on a port of the loopback to a server behind it: shut, nobody listens there and what ran through it is cut. */
export interface TcpGate {
  readonly port: number;
  open(): Promise<void>;
  shut(): Promise<void>;
}

/** A gate that is shut at first; its port is free and stays the same. */
export async function createTcpGate(behind: {
  readonly host: string;
  readonly port: number;
}): Promise<TcpGate> {
  const sockets = new Set<Socket>();
  const pass = (client: Socket): void => {
    const server = connect(behind);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  };
  let listener: Server | null = null;
  const listen = async (port: number): Promise<number> => {
    listener = createServer(pass);
    listener.listen(port, '127.0.0.1');
    await once(listener, 'listening');
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('the gate has no port');
    return address.port;
  };
  const shut = async (): Promise<void> => {
    if (listener === null) return;
    const closed = once(listener, 'close');
    listener.close();
    for (const socket of sockets) socket.destroy();
    await closed;
    listener = null;
  };
  const port = await listen(0);
  await shut();
  return {
    port,
    shut,
    async open() {
      if (listener === null) await listen(port);
    },
  };
}
