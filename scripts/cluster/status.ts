/** The status of the cluster's processes: a table that is drawn again on a terminal, a line for each change elsewhere. */
import type { Backend } from './balancer.ts';
import type { Member, MemberState } from './member.ts';

const colours: Readonly<Record<MemberState, string>> = {
  starting: '36',
  ready: '32',
  degraded: '33',
  'not ready': '33',
  draining: '36',
  down: '31',
};

export class StatusBoard {
  readonly #members: readonly Member[];
  readonly #backends: readonly Backend[];
  readonly #told = new Map<string, string>();
  #drawnLines = 0;

  constructor(members: readonly Member[], backends: readonly Backend[]) {
    this.#members = members;
    this.#backends = backends;
  }

  /** Draws below what was written meanwhile. */
  restart(): void {
    this.#drawnLines = 0;
  }

  draw(): void {
    if (process.stdout.isTTY) this.#redraw();
    else this.#tellChanges();
  }

  #redraw(): void {
    const rows = this.#members.map((member) => this.#row(member, true));
    const head = '  process     pid      state       address           memory  conns  starts';
    const up = this.#drawnLines === 0 ? '' : `\u001B[${this.#drawnLines}A`;
    process.stdout.write(`${up}${[head, ...rows].map((row) => `\u001B[2K${row}\n`).join('')}`);
    this.#drawnLines = rows.length + 1;
  }

  #tellChanges(): void {
    for (const member of this.#members) {
      const { name } = member.settings;
      const told = `${member.state} ${member.degraded.join(', ')} ${member.pid ?? ''}`;
      if (this.#told.get(name) === told) continue;
      this.#told.set(name, told);
      process.stdout.write(`${this.#row(member, false)}\n`);
    }
  }

  #row(member: Member, isColoured: boolean): string {
    const { name, port } = member.settings;
    const state = member.state.padEnd(10);
    const shown = isColoured ? `\u001B[${colours[member.state]}m${state}\u001B[0m` : state;
    const memory = member.residentMiB === null ? '' : `${member.residentMiB.toFixed(0)} MiB`;
    const connections = this.#backends.find((backend) => backend.name === name)?.connections;
    const lost = member.degraded.length > 0 ? `  without ${member.degraded.join(', ')}` : '';
    return (
      `  ${name.padEnd(11)} ${String(member.pid ?? '-').padEnd(8)} ${shown}  ${`127.0.0.1:${port}`.padEnd(16)} ` +
      `${memory.padStart(8)}  ${String(connections ?? '').padStart(5)}  ${String(member.starts).padStart(6)}${lost}`
    );
  }
}
