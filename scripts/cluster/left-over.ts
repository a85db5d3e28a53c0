/**
 * Which processes an earlier `npm run cluster` has left. Each of its processes is noted in a file by its number and the time
 * of its start, since numbers come again: only a process that has both is taken for the noted one.
 *
 * A process drains by itself when its cluster is killed (follow-parent.mjs), so what is left is on its way out, stands
 * still, or hangs. It is told once more to end, and ended where it does not.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

const noteShape = z.object({ pid: z.number().int().positive(), started: z.string() });

const lookEveryMs = 100;

/** Notes a process that is running now. */
export function noteProcess(file: string, pid: number): void {
  const started = startOf(pid);
  // It has ended already.
  if (started === null) return;
  writeFileSync(file, JSON.stringify({ pid, started }), { mode: 0o600 });
}

export function forgetProcess(file: string): void {
  rmSync(file, { force: true });
}

/** The number of the noted process where that very one is running still; else null. */
export function notedProcess(file: string): number | null {
  try {
    const { pid, started } = noteShape.parse(JSON.parse(readFileSync(file, 'utf8')));
    return startOf(pid) === started ? pid : null;
  } catch {
    // There is no note, or none that can be read: nothing is known of an earlier process.
    return null;
  }
}

/**
 * Ends the noted processes that are left, all at once: SIGTERM (and SIGCONT, since one that stands still cannot drain), then
 * SIGKILL for those that are there after `withinMs`. `say` gets a line for each.
 */
export async function endLeftOvers(
  notes: readonly { readonly name: string; readonly file: string }[],
  say: (line: string) => void,
  withinMs: number,
): Promise<void> {
  await Promise.all(
    notes.map(async ({ name, file }) => {
      const pid = notedProcess(file);
      if (pid === null) return;
      say(`${name} of an earlier start is still there (process ${pid}); it is told to drain, and waited for`);
      signal(pid, 'SIGTERM');
      signal(pid, 'SIGCONT');
      const untilMs = performance.now() + withinMs;
      while (notedProcess(file) !== null) {
        if (performance.now() > untilMs) {
          say(`${name} of an earlier start did not end within ${withinMs / 1000} s and is killed`);
          signal(pid, 'SIGKILL');
        }
        await new Promise((resume) => setTimeout(resume, lookEveryMs));
      }
      forgetProcess(file);
    }),
  );
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** When a process started, as the system tells it; null where there is none, or only its exit code is left of it. */
function startOf(pid: number): string | null {
  try {
    if (process.platform !== 'linux')
      return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim() || null;
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in brackets may hold anything; behind it come the state and, nineteen fields on, the start since boot.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
