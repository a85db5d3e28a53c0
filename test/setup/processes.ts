import { readFileSync } from 'node:fs';

/** Waits until `condition` holds; throws after `limitMs`, 10 s by default, with what was waited for. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 10_000,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** True for a process that runs; a dead one that nobody has reaped yet is none. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    const content = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return content.charAt(content.lastIndexOf(')') + 2) !== 'Z';
  } catch {
    return process.platform !== 'linux';
  }
}
