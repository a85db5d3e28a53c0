/** One process of the cluster: started, watched by its /readyz, started again when it dies, drained at the end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import path from 'node:path';
import { forgetProcess, noteProcess } from './left-over.ts';

export type MemberState = 'starting' | 'ready' | 'degraded' | 'not ready' | 'draining' | 'down';

export interface MemberSettings {
  readonly name: string;
  readonly roles: readonly string[];
  readonly port: number;
  readonly adminPort: number;
  /** Its data directory and its log are here. */
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
}

const followParent = path.join(import.meta.dirname, 'follow-parent.mjs');
const mainFile = path.join(import.meta.dirname, '..', '..', 'server', 'src', 'main.ts');
/** Far beyond every deadline of a drain: a process that hangs must not keep the others. */
export const stopWithinMs = 60_000;
/** A process that dies at once is not started in a circle. */
const restartAfterMs = 1_000;

export class Member {
  readonly settings: MemberSettings;
  state: MemberState = 'starting';
  /** What /readyz names as lost. */
  degraded: readonly string[] = [];
  starts = 0;
  #child: ChildProcess | null = null;
  #isStopping = false;

  constructor(settings: MemberSettings) {
    this.settings = settings;
    mkdirSync(settings.folder, { recursive: true, mode: 0o700 });
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  get dataDirectory(): string {
    return path.join(this.settings.folder, 'data');
  }

  get logFile(): string {
    return path.join(this.settings.folder, 'stoa.log');
  }

  /** Notes the process, so that a later start knows it again where this one ends without a word. */
  get processFile(): string {
    return path.join(this.settings.folder, 'process.json');
  }

  /** Resident memory in MiB; null where the process is gone or this is not Linux. */
  get residentMiB(): number | null {
    if (this.pid === null) return null;
    try {
      const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1'))?.[1];
      return kib === undefined ? null : Number(kib) / 1024;
    } catch {
      return null;
    }
  }

  start(): void {
    const { roles, port, adminPort, environment } = this.settings;
    this.starts += 1;
    this.state = 'starting';
    const args = ['--max-semi-space-size=16', '--import', followParent, mainFile, 'serve', ...roles];
    // The file itself and no pipe to here: the last words of a process that outlives this one are kept.
    const log = openSync(this.logFile, 'a', 0o600);
    const child = spawn(process.execPath, args, {
      env: {
        ...process.env,
        ...environment,
        STOA_DATA_DIR: this.dataDirectory,
        STOA_LISTEN: `127.0.0.1:${port}`,
        STOA_ADMIN_LISTEN: `127.0.0.1:${adminPort}`,
      },
      // The pipe to its standard input is never written to: it tells the child that this process lives.
      stdio: ['pipe', log, log],
      // A group of its own: Ctrl-C reaches this program alone, which then drains the processes in their order.
      detached: true,
    });
    this.#child = child;
    child.stdin?.on('error', () => undefined);
    if (child.pid !== undefined) noteProcess(this.processFile, child.pid);
    closeSync(log);
    child.once('exit', () => this.#onExit());
  }

  /** Asks /readyz once. */
  async look(): Promise<void> {
    if (this.#child === null || this.state === 'draining') return;
    const answer = await readiness(this.settings.port);
    if (this.#child === null || this.#isStopping) return;
    if (answer === null) {
      if (this.state !== 'starting') this.state = 'not ready';
      return;
    }
    this.degraded = answer.degraded;
    if (answer.status !== 200) this.state = 'not ready';
    else this.state = answer.degraded.length > 0 ? 'degraded' : 'ready';
  }

  /** SIGTERM, and waits for the end. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const child = this.#child;
    if (child === null) return;
    this.state = 'draining';
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    const cut = setTimeout(() => child.kill('SIGKILL'), stopWithinMs);
    await gone;
    clearTimeout(cut);
  }

  #onExit(): void {
    forgetProcess(this.processFile);
    this.#child = null;
    this.state = 'down';
    this.degraded = [];
    if (this.#isStopping) return;
    setTimeout(() => {
      if (!this.#isStopping) this.start();
    }, restartAfterMs);
  }
}

function readiness(port: number): Promise<{ status: number; degraded: readonly string[] } | null> {
  return new Promise((resolve) => {
    const request = get(
      { host: '127.0.0.1', port, path: '/readyz', timeout: 1_000, agent: false },
      (answer) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (part: string) => {
          text += part;
        });
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, degraded: degradedIn(text) }));
        answer.on('error', () => resolve(null));
      },
    );
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(null));
  });
}

function degradedIn(text: string): readonly string[] {
  try {
    const answer: unknown = JSON.parse(text);
    if (typeof answer !== 'object' || answer === null || !('degraded' in answer)) return [];
    const { degraded } = answer;
    return Array.isArray(degraded) ? degraded.map(String) : [];
  } catch {
    return [];
  }
}
