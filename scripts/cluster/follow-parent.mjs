/**
 * Loaded in front of a process of the cluster (`node --import`): it drains when whoever started it is gone, however that ended.
 * Standard input is a pipe whose other end only the parent holds, and the kernel closes that end even after `kill -9`.
 */
import { Socket } from 'node:net';

const input = new Socket({ fd: 0, readable: true, writable: false });
// Watching is no reason to live on.
input.unref();
input.resume();
input.once('close', () => process.kill(process.pid, 'SIGTERM'));
input.once('error', () => undefined);
