/**
 * Two processes that consume events under load, on the code of the platform, each writing a row for every event that it
 * handles; and changes of all tenants in turn, so that there are keys whose order can be broken.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import pg from 'pg';
import { request } from 'undici';
import { type Platform, until } from './platform.ts';
import type { FailureTenant } from './tenants.ts';

const eventsFolder = path.join(import.meta.dirname, '../../server/src/platform/events/dispatch/testing');
const program = path.join(eventsFolder, 'counting-process.ts');
const restartAfterMs = 500;
const changeEveryMs = 100;

export interface Consumers {
  readonly pids: readonly number[];
  /** Changes of tenants that were answered with 200. */
  readonly changes: number;
  /** Waits until every event has had its effect, and holds the effects against the log. */
  check(): Promise<{ readonly events: number; readonly keys: number }>;
  dispose(): Promise<void>;
}

class Counter {
  #child: ChildProcess;
  #isStopping = false;
  readonly #args: readonly string[];

  constructor(args: readonly string[]) {
    this.#args = args;
    this.#child = this.#start();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGTERM');
    const cut = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
    await gone;
    clearTimeout(cut);
  }

  #start(): ChildProcess {
    const child = spawn(process.execPath, [program, ...this.#args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.once('exit', () => {
      if (!this.#isStopping) setTimeout(() => this.#restart(), restartAfterMs);
    });
    return child;
  }

  #restart(): void {
    if (!this.#isStopping) this.#child = this.#start();
  }
}

export async function startConsumers(
  platform: Platform,
  natsUrl: string,
  tenants: readonly FailureTenant[],
  leaseMs: number,
): Promise<Consumers> {
  const { databaseUrls, credentials } = platform;
  await withClient(databaseUrls.migration, async (client) => {
    await client.query(readFileSync(path.join(eventsFolder, 'migrations/0001-effects.sql'), 'utf8'));
  });
  const args = [JSON.stringify(databaseUrls), natsUrl, String(leaseMs)];
  const counters = [new Counter(args), new Counter(args)];
  let changes = 0;
  let turn = 0;
  let isChanging = false;
  const change = async (): Promise<void> => {
    const changed = tenants[turn % tenants.length];
    const control = platform.controls.find(({ state }) => state === 'ready' || state === 'degraded');
    if (isChanging || control === undefined || changed === undefined) return;
    isChanging = true;
    try {
      const url = `http://127.0.0.1:${control.settings.adminPort}/control/v1/tenants/${changed.id}`;
      const answer = await request(url, {
        method: 'PATCH',
        headers: { authorization: `Bearer ${credentials.operatorKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ name: `Same name ${Math.floor(turn / tenants.length)}` }),
        signal: AbortSignal.timeout(5_000),
      });
      await answer.body.dump();
      if (answer.statusCode === 200) changes += 1;
      turn += 1;
    } catch {
      // Its process or the database was just taken away; the next change comes soon.
    } finally {
      isChanging = false;
    }
  };
  const changing = setInterval(() => {
    change().catch(() => undefined);
  }, changeEveryMs);
  return {
    get pids() {
      return counters.map(({ pid }) => pid);
    },
    get changes() {
      return changes;
    },
    check: () => withClient(databaseUrls.operator, checkEffects),
    async dispose() {
      clearInterval(changing);
      await Promise.all(counters.map((counter) => counter.stop()));
    },
  };
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

const wanted = `type in ('request.completed.v1', 'control.changed.v1')`;

/** As of one moment: events that were told before it have had their effect once, and each key's in their order. */
async function checkEffects(client: pg.Client): Promise<{ events: number; keys: number }> {
  const { rows: moment } = await client.query<{ now: Date }>('select clock_timestamp() as now');
  const before = moment[0]?.now;
  const counts = async (): Promise<{ events: number; handled: number }> => {
    const { rows } = await client.query<{ events: number; handled: number }>(
      `select count(*)::int as events, count(f.event_id)::int as handled from tenant.events e
       left join (select distinct tenant_id, event_id from tenant.test_effects) f using (tenant_id, event_id)
       where ${wanted} and e.appended_at < $1`,
      [before],
    );
    return rows[0] ?? { events: 0, handled: 0 };
  };
  let found = { events: 0, handled: 0 };
  await until('effect of every event', async () => {
    found = await counts();
    return found.events > 0 && found.events === found.handled;
  });
  const { rows: twice } = await client.query(
    'select event_id, count(*)::int from tenant.test_effects group by 1 having count(*) > 1',
  );
  assert.deepEqual(twice, [], 'no event has its effect twice, in one tenant or in two');
  const { rows: strays } = await client.query(
    'select event_id from tenant.test_effects f where not exists (select from tenant.events e where e.tenant_id = f.tenant_id and e.event_id = f.event_id)',
  );
  assert.deepEqual(strays, [], 'no effect is without its event, or of another tenant');
  const { rows: unaccounted } = await client.query(
    `select coalesce(f.event_id, i.event_id) as event_id, i.event_id is null as is_not_entered
     from tenant.test_effects f
     full join (select tenant_id, event_id from tenant.event_inbox where consumer = 'failure.counter') i
       using (tenant_id, event_id)
     where f.event_id is null or i.event_id is null and not exists (
       select from tenant.event_positions p where p.tenant_id = f.tenant_id and p.consumer = f.consumer
         and p.key = f.key and p.keyversion >= f.keyversion)`,
  );
  assert.deepEqual(
    unaccounted,
    [],
    'what is in the inbox has had its effect, and what has had its effect is in the inbox or behind its key’s position',
  );
  const { rows: disordered } = await client.query(
    `select key, keyversion, previous from (
       select key, keyversion, lag(keyversion) over (partition by tenant_id, key order by effect_id) as previous
       from tenant.test_effects f where exists (
         select from tenant.events e where e.tenant_id = f.tenant_id and e.event_id = f.event_id and e.type = 'control.changed.v1')) as steps
     where keyversion <> previous + 1`,
  );
  assert.deepEqual(disordered, [], 'the effects of a key come in the order of its versions');
  const { rows: keys } = await client.query<{ keys: number }>(
    `select count(distinct (tenant_id, key))::int as keys from tenant.events where type = 'control.changed.v1'`,
  );
  return { events: found.events, keys: keys[0]?.keys ?? 0 };
}
