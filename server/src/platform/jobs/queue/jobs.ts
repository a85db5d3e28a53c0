import type { Database, OperatorHandle, SystemHandle, TenantHandle } from '#db';
import type { creatingOperatorRoute, operatorRoute, Route } from '#http';
import { AppError, type Clock, type HealthPart, isUuid, type Lifecycle, type Logger, newUuid } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { createTimers, type TimerRun } from '../timers.ts';
import { createBoss, queueOptions } from './boss.ts';
import type { Job, NamedJob } from './define.ts';
import { jobRoutes, type JobRoutesDependencies, noSuchJob } from './http.ts';
import { declare, deleteOldProgress, enqueueEach, enqueueFor, enqueueOwn, type NewJob } from './jobs.sql.ts';
import { observeJobs } from './metrics.ts';
import { nextOccurrence, Schedules } from './schedules.ts';
import { Worker, type WorkerDependencies } from './worker.ts';

export interface EnqueueOptions {
  /**
   * One tenant's (or the platform's) jobs of one name with the same key are one job, until a week after its end: enqueuing
   * again answers the id of the first. At most 200 characters.
   */
  readonly key?: string;
  /** Not before; default now. */
  readonly runAfter?: Date;
  readonly traceparent?: string;
}

export interface JobsApi {
  /**
   * Enqueues a job of the handle's tenant, in its transaction: with the commit it is there, with a rollback it never was.
   * Answers its id, UUID text; that of the job already there where `key` is known. A millisecond.
   * @throws AppError `invalid_request` or `invalid_text` for data that the job can't take; SqlError where nobody has
   * declared the job, or it is one of the platform's
   */
  enqueue<Input>(tx: TenantHandle, job: Job<Input>, data: Input, options?: EnqueueOptions): Promise<string>;
  /**
   * The same through the operator's or the system's door, for a tenant or (null) the platform. A system job that
   * enqueues lists `jobs.enqueue` in `grants.ts`.
   */
  enqueueFor<Input>(
    tx: OperatorHandle | SystemHandle,
    tenantId: string | null,
    job: Job<Input>,
    data: Input,
    options?: EnqueueOptions,
  ): Promise<string>;
  /** Many jobs of tenants, due now, in one statement. Tenant ids are UUID text. */
  enqueueEach<Input>(
    tx: SystemHandle,
    job: Job<Input>,
    wanted: readonly { readonly tenantId: string; readonly data: Input }[],
  ): Promise<void>;
}

export interface JobsDependencies {
  readonly db: Pick<Database, 'adapter' | 'withSystem' | 'withOperator'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly operatorRoute: typeof operatorRoute;
  readonly creatingOperatorRoute: typeof creatingOperatorRoute;
  readonly requireTenant: JobRoutesDependencies['requireTenant'];
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface JobsSettings {
  /** Whether this process runs jobs; all processes may enqueue. */
  readonly isWorker: boolean;
  /** Jobs at once in this process, 1 to 100; default 4. */
  readonly places?: number;
  /** Jobs at once that do little but wait (`isWaiting`), beside those, 1 to 100; default 32. */
  readonly waitingPlaces?: number;
  /**
   * Between two looks for due jobs, in ms; what this process enqueues is found at once. Default 1,000 on PostgreSQL, and
   * 15,000 on PGlite, where nobody else enqueues and only delayed jobs wait for it.
   */
  readonly pollMs?: number;
  /** How long a running job may give no sign of life before it is another's, in s; 10 and up, default 30. */
  readonly leaseSeconds?: number;
  /** Between two looks for workers that were lost, in ms; 1,000 and up, default 15,000, on PGlite 120,000. */
  readonly upkeepMs?: number;
  /** How long `stop` waits for running jobs, in ms; default 8,000. */
  readonly drainMs?: number;
}

export interface JobsModule {
  readonly api: JobsApi;
  /** Takes the declarations of all modules, once, before the lifecycle starts. Throws for a doubled name or no cron. */
  register(jobs: readonly NamedJob[]): void;
  /** For the admin listener. */
  readonly routes: Route[];
  /** Declares the jobs in every process; works where `isWorker`. */
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
  /**
   * Fails what lost workers held and removes what is past its time. By itself every `upkeepMs`, in one process at a time,
   * which writes through its fenced door; called by hand, through the database's.
   */
  upkeep(leader?: Pick<TimerRun, 'withSystem'>): Promise<void>;
}

const maximumKeyLength = 200;
/** No job has this id. */
const nobody = '00000000-0000-0000-0000-000000000000';

export function createJobs(deps: JobsDependencies, settings: JobsSettings): JobsModule {
  const { db, logger, clock } = deps;
  const upkeepMs = settings.upkeepMs ?? (db.adapter === 'postgres' ? 15_000 : 120_000);
  const leaseSeconds = settings.leaseSeconds ?? 30;
  const monitorSeconds = Math.max(1, Math.floor(upkeepMs / 1000) - 1);
  const boss = createBoss({ db, logger }, { monitorSeconds });
  const jobs = new Map<string, NamedJob>();
  const waiting = new Map<string, NamedJob>();
  const working = new Map<string, NamedJob>();
  const counts = observeJobs(deps.metrics, () => worker.runningCount);
  const worker = createWorkers(
    {
      ...deps,
      boss,
      random: deps.random ?? Math.random,
      onSettled: (name, outcome) => counts.settled(name, outcome),
    },
    { pollMs: db.adapter === 'postgres' ? 1000 : 15_000, ...settings },
    { working, waiting },
  );
  // pg-boss claims each queue before it sweeps it, so two that sweep at once do no harm.
  const upkeep = async (leader: Pick<TimerRun, 'withSystem'>): Promise<void> => {
    await boss.superviseThrough(leader);
    await leader.withSystem('jobs', deleteOldProgress);
    worker.look();
  };
  const api = enqueuing(() => worker.nudge());
  return {
    api,
    register(declared) {
      for (const job of declared) {
        if (jobs.has(job.name)) throw new Error(`two jobs have the name ${job.name}`);
        if (job.schedule !== null) {
          job.encodeUnknown({});
          nextOccurrence(boss, job.schedule, new Date(clock.now()));
        }
        jobs.set(job.name, job);
        (job.isWaiting ? waiting : working).set(job.name, job);
      }
    },
    routes: jobRoutes({
      db,
      operatorRoute: deps.operatorRoute,
      creatingOperatorRoute: deps.creatingOperatorRoute,
      requireTenant: deps.requireTenant,
      nextOccurrence: (schedule, from) => nextOccurrence(boss, schedule, from),
      async enqueue(tx, { name, tenantId, data }) {
        const job = jobs.get(name);
        if (job === undefined) throw noSuchJob();
        requireScope(job, tenantId);
        return api.enqueueFor(tx, tenantId, { ...job, encode: job.encodeUnknown }, data);
      },
    }),
    lifecycle: jobsLifecycle({ deps, boss, jobs, worker, upkeep }, { ...settings, upkeepMs, leaseSeconds }),
    health: { name: 'jobs', isHealthy: () => worker.isHealthy },
    upkeep: (leader = db) => upkeep(leader),
  };
}

type Workers = Pick<Worker, 'runningCount' | 'isHealthy' | 'start' | 'nudge' | 'look' | 'stop'>;

/** Two workers as one: for jobs that work, and for those that wait for somebody. */
function createWorkers(
  deps: WorkerDependencies,
  settings: JobsSettings & { readonly pollMs: number },
  jobs: Record<'working' | 'waiting', ReadonlyMap<string, NamedJob>>,
): Workers {
  const common = {
    pollMs: settings.pollMs,
    signOfLifeMs: ((settings.leaseSeconds ?? 30) * 1000) / 3,
    drainMs: settings.drainMs ?? 8000,
  };
  const first = new Worker(deps, { ...common, places: settings.places ?? 4 }, jobs.working);
  const second = new Worker(deps, { ...common, places: settings.waitingPlaces ?? 32 }, jobs.waiting);
  const each = (act: (worker: Worker) => void): void => {
    act(first);
    act(second);
  };
  return {
    get runningCount() {
      return first.runningCount + second.runningCount;
    },
    get isHealthy() {
      return first.isHealthy && second.isHealthy;
    },
    start: () => each((worker) => worker.start()),
    nudge: () => each((worker) => worker.nudge()),
    look: () => each((worker) => worker.look()),
    async stop() {
      await Promise.all([first.stop(), second.stop()]);
    },
  };
}

function requireScope({ scope }: NamedJob, tenantId: string | null): void {
  if ((scope === 'tenant') === (tenantId !== null)) return;
  const advice =
    scope === 'tenant' ? 'is needed: the job is a tenant’s' : 'must be absent: the job is the platform’s';
  throw new AppError('invalid_request', `tenant_id: ${advice}.`, { param: 'tenant_id' });
}

function enqueuing(nudge: () => void): JobsApi {
  const enqueued = (id: string | undefined): string => {
    if (id === undefined) throw new AppError('internal_error', 'A job was enqueued without an id.');
    nudge();
    return id;
  };
  return {
    async enqueue(tx, job, data, options) {
      return enqueued(await enqueueOwn(tx, newJob(job.name, job.encode(data), options)));
    },
    async enqueueFor(tx, tenantId, job, data, options) {
      if (tenantId !== null && !isUuid(tenantId))
        throw new AppError('internal_error', 'A tenant id must be a UUID in lower case.');
      return enqueued(await enqueueFor(tx, tenantId, newJob(job.name, job.encode(data), options)));
    },
    async enqueueEach(tx, job, wanted) {
      if (wanted.length === 0) return;
      const rows = wanted.map(({ tenantId, data }) => ({ tenantId, data: job.encode(data) }));
      await enqueueEach(tx, job.name, rows);
      nudge();
    },
  };
}

function newJob(name: string, data: string, options: EnqueueOptions = {}): NewJob {
  const { key = null, runAfter = null, traceparent = null } = options;
  if (key !== null && (key === '' || key.length > maximumKeyLength))
    throw new AppError('internal_error', `A job's key has 1 to ${maximumKeyLength} characters.`);
  return { id: newUuid(), name, data, key, runAfter, traceparent };
}

interface Parts {
  readonly deps: JobsDependencies;
  readonly boss: ReturnType<typeof createBoss>;
  readonly jobs: ReadonlyMap<string, NamedJob>;
  readonly worker: Workers;
  readonly upkeep: (run: TimerRun) => Promise<void>;
}

function jobsLifecycle(
  { deps, boss, jobs, worker, upkeep }: Parts,
  settings: { readonly isWorker: boolean; readonly upkeepMs: number; readonly leaseSeconds: number },
): Lifecycle {
  const { db, logger, clock } = deps;
  const timers = createTimers(
    { db, clock, logger, ...(deps.random ? { random: deps.random } : {}) },
    [{ name: 'jobs-upkeep', everyMs: settings.upkeepMs, run: upkeep }],
    { leaseMs: settings.leaseSeconds * 1000 },
  );
  let schedules: Schedules | null = null;
  return {
    async start() {
      if (jobs.size === 0) return;
      await declareAll(boss, db, [...jobs.values()], settings.leaseSeconds);
      if (!settings.isWorker) return;
      schedules = new Schedules({ db, boss, clock, logger, onEnqueued: () => worker.nudge() }, jobs.values());
      schedules.start();
      worker.start();
      await timers.start();
    },
    async stop() {
      await schedules?.stop();
      await worker.stop();
      await timers.stop();
    },
  };
}

/** Writes what is new or has changed; nothing where the last start declared the same. */
async function declareAll(
  boss: Parts['boss'],
  db: Pick<Database, 'withSystem'>,
  jobs: readonly NamedJob[],
  leaseSeconds: number,
): Promise<void> {
  const known = new Map((await boss.getQueues()).map((queue) => [queue.name, queue]));
  for (const job of jobs) {
    const wanted = queueOptions(job, leaseSeconds);
    const found = known.get(job.name);
    if (found === undefined) await boss.createQueue(job.name, wanted);
    else if (!isAsWanted({ ...found }, wanted)) await boss.updateQueue(job.name, wanted);
    // Makes pg-boss read the queue's row now: it would do so at the first settling, inside that one's transaction.
    else await boss.touch(job.name, { id: nobody, retryCount: 0 });
  }
  await db.withSystem('jobs', (tx) => declare(tx, jobs));
}

function isAsWanted(found: Readonly<Record<string, unknown>>, wanted: object): boolean {
  return Object.entries(wanted).every(([name, value]) => found[name] === value);
}
