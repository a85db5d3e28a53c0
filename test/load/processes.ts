import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** Starting what a load run needs, stopping it by its process id, and reading its CPU and memory from /proc (Linux). */
const tickUs = 10_000; // the kernel counts CPU time in hundredths of a second
const started = new Set<ChildProcess>();

process.on('exit', () => {
  for (const child of started) child.kill('SIGKILL');
});

/** Starts a script with this very Node. `nodeFlags` come before it. */
export function start(
  script: string,
  args: readonly string[],
  env: Record<string, string> = {},
  nodeFlags: readonly string[] = [],
): ChildProcess {
  const child = spawn(process.execPath, [...nodeFlags, script, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.add(child);
  child.once('exit', () => started.delete(child));
  return child;
}

/** Waits for the line `listening <port>`. */
export async function listeningPort(child: ChildProcess): Promise<number> {
  const { stdout } = child;
  if (!stdout) throw new Error('the child has no standard output');
  let text = '';
  return new Promise((resolve, reject) => {
    child.once('exit', (code) =>
      reject(new Error(`${child.spawnargs.join(' ')} ended with ${String(code)}`)),
    );
    stdout.on('data', (part: Buffer) => {
      text += part.toString();
      const port = /listening (\d+)/.exec(text)?.[1];
      if (port !== undefined) resolve(Number(port));
    });
  });
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await gone;
  clearTimeout(timer);
}

/** CPU time that the process and all its threads have used, in microseconds. */
export function cpuUs(child: ChildProcess): number {
  const stat = readFileSync(`/proc/${String(child.pid)}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * tickUs;
}

/** Peak resident memory in MiB. */
export function peakMiB(child: ChildProcess): number {
  return (
    Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${String(child.pid)}/status`, 'latin1'))?.[1] ?? 0) /
    1024
  );
}

/** Resident memory now, in MiB. */
export function residentMiB(child: ChildProcess): number {
  return (
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(child.pid)}/status`, 'latin1'))?.[1] ?? 0) /
    1024
  );
}

/** How many processes the machine runs; printed with the figures so that a busy machine can be seen. */
export function processCount(): number {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length;
}
