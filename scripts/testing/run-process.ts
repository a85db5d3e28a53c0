import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface ProcessResult {
  /** Undefined where a signal or the deadline ended it. */
  exitCode: number | undefined;
  timedOut: boolean;
  /** Standard output and error in the order of their arrival; the middle is dropped beyond `outputLimitChars`. */
  output: string;
  durationMs: number;
}

export interface ProcessOptions {
  args: string[];
  environment: NodeJS.ProcessEnv;
  cwd: string;
  deadlineMs: number;
  /** Called with each line of standard output as it comes. */
  onLine?: (line: string) => void;
}

const outputLimitChars = 200_000;
const running = new Set<ChildProcess>();

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has gone already, which is what was wanted.
  }
}

/**
 * On SIGINT or SIGTERM ends every process group that `runNode` started, lets `sayGoodbye` write a last word, and
 * ends this process with the usual code. Call once, at the start of a script.
 */
export function endGroupsWithUs(sayGoodbye: () => void): void {
  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.once(signal, () => {
      for (const child of running) killGroup(child, 'SIGKILL');
      sayGoodbye();
      process.exit(exitCode);
    });
  }
}

/**
 * Runs this Node with `args` in a process group of its own and waits for its end. Whatever it started and left
 * behind in that group is killed with it. Never rejects: a process that could not be started has no exit code.
 */
export async function runNode(options: ProcessOptions): Promise<ProcessResult> {
  const started = performance.now();
  const child = spawn(process.execPath, options.args, {
    cwd: options.cwd,
    env: options.environment,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let output = '';
  const append = (chunk: string): void => {
    output += chunk;
    if (output.length > 2 * outputLimitChars) output = `${output.slice(0, outputLimitChars)}\n[...]\n`;
  };
  child.stdout.setEncoding('utf8').on('data', append);
  if (options.onLine) createInterface({ input: child.stdout }).on('line', options.onLine);
  child.stderr.setEncoding('utf8').on('data', append);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child, 'SIGKILL');
  }, options.deadlineMs);
  const exitCode = await new Promise<number | undefined>((resolve) => {
    child.once('error', (error) => {
      append(`${error.message}\n`);
      resolve(undefined);
    });
    child.once('exit', (code) => resolve(code ?? undefined));
  });
  clearTimeout(timer);
  killGroup(child, 'SIGKILL');
  if (child.pid !== undefined) await drained(child);
  running.delete(child);
  return { exitCode, timedOut, output, durationMs: performance.now() - started };
}

/** Output may arrive after the exit; a process outside the group that holds the pipe is not waited for. */
async function drained(child: ChildProcess): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    if (child.stdout?.destroyed === true && child.stderr?.destroyed === true) resolve();
    else child.once('close', () => resolve());
  });
  const limit = new Promise<void>((resolve) => {
    setTimeout(resolve, 1_000).unref();
  });
  await Promise.race([closed, limit]);
}
