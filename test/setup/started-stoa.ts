import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { isRunning, until } from './processes.ts';

const credentialsShape = z.object({
  baseUrl: z.url(),
  adminUrl: z.url(),
  operatorKey: z.string(),
  demo: z.object({ tenantId: z.string(), apiKey: z.string() }),
});

export type Credentials = z.infer<typeof credentialsShape>;

/** `npm start` in a folder, on free ports and a data directory of its own. */
export class StartedStoa {
  readonly npm: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #dataFolder: string;
  output = '';

  constructor(folder: string, environment: NodeJS.ProcessEnv) {
    this.#dataFolder = mkdtempSync(path.join(tmpdir(), 'stoa-data-'));
    this.npm = spawn('npm', ['start'], {
      cwd: folder,
      env: {
        ...environment,
        STOA_LISTEN: '127.0.0.1:0',
        STOA_ADMIN_LISTEN: '127.0.0.1:0',
        STOA_DATA_DIR: this.#dataFolder,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const append = (chunk: string): void => {
      this.output += chunk;
    };
    this.npm.stdout?.setEncoding('utf8').on('data', append);
    this.npm.stderr?.setEncoding('utf8').on('data', append);
    this.ended = new Promise((resolve) => {
      this.npm.once('exit', (code, signal) => resolve({ code, signal }));
    });
  }

  get npmPid(): number {
    if (this.npm.pid === undefined) throw new Error('npm did not start');
    return this.npm.pid;
  }

  /** What npm started and what still runs. */
  #children(): number[] {
    try {
      const content = readFileSync(`/proc/${this.npmPid}/task/${this.npmPid}/children`, 'utf8');
      return content.trim().split(' ').filter(Boolean).map(Number);
    } catch {
      return [];
    }
  }

  /** The one process that npm started. */
  get serverPid(): number {
    const [pid, ...others] = this.#children();
    if (pid === undefined || others.length > 0) throw new Error('npm has not exactly one child');
    return pid;
  }

  /** Waits for /readyz and returns what the data directory then holds. */
  async ready(): Promise<Credentials> {
    let credentials: Credentials | undefined;
    const isReady = async (): Promise<boolean> => {
      if (!isRunning(this.npmPid)) throw new Error(`npm start has ended:\n${this.output}`);
      const file = path.join(this.#dataFolder, 'credentials.json');
      if (!existsSync(file)) return false;
      credentials = credentialsShape.parse(JSON.parse(readFileSync(file, 'utf8')));
      return (await statusOf(`${credentials.baseUrl}/readyz`)) === 200;
    };
    await until(isReady, '/readyz answers 200', 60_000);
    if (!credentials) throw new Error('ready without credentials');
    return credentials;
  }

  /** Ends what is left and removes the data directory. All of it is in the test's own process group too. */
  remove(): void {
    for (const pid of [this.npmPid, ...this.#children()]) {
      if (isRunning(pid)) process.kill(pid, 'SIGKILL');
    }
    rmSync(this.#dataFolder, { recursive: true, force: true });
  }
}

/** The status of a GET, or undefined where nobody answers. */
export async function statusOf(url: string): Promise<number | undefined> {
  try {
    const answer = await fetch(url);
    await answer.body?.cancel();
    return answer.status;
  } catch {
    return undefined;
  }
}
