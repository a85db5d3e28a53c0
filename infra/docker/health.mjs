/** Exit code 0 while the process answers on /livez: liveness, since a process that is only not ready must not be restarted. */
import { get } from 'node:http';

const port = /:(\d+)$/.exec(process.env['STOA_LISTEN'] ?? '')?.[1] ?? '8080';
const request = get({ host: '127.0.0.1', port, path: '/livez', timeout: 2_000 }, (answer) => {
  answer.resume();
  process.exitCode = answer.statusCode === 200 ? 0 : 1;
});
request.on('timeout', () => request.destroy(new Error('no answer')));
request.on('error', () => {
  process.exitCode = 1;
});
