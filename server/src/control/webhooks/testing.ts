/** Webhooks as a process has them, over a test's database: listeners, jobs, the event log, and an endpoint to be called. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { eventTable } from '@stoa/contracts';
import { sql } from 'kysely';
import { randomBytes } from 'node:crypto';
import { appendEvents, createDispatcher, createLogCarrier, type Dispatcher } from '#events';
import { createGuardedClient, creatingOperatorRoute, operatorRoute, readOutboundAllowances } from '#http';
import { createJobs, type JobsModule } from '#jobs';
import { createSealer, fromTypeId, newUuid, silentLogger, systemClock } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import {
  type Answer,
  type ControlPlane,
  openControlPlane,
  openTestDatabase,
  type TestAdapter,
  type TestDatabase,
} from '#testing';
import { createWebhooks, type RoundSettings, type WebhooksModule } from './index.ts';

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  observedGauge: () => undefined,
  histogram: () => nothing,
};

export interface Received {
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
  readonly url: string;
}

export interface Receiver {
  readonly url: string;
  readonly received: Received[];
  /** What it answers with; default 204. */
  respond: (message: Received, response: ServerResponse) => void;
  close(): Promise<void>;
}

export interface OpenWebhooks {
  readonly database: TestDatabase;
  readonly plane: ControlPlane;
  readonly webhooks: WebhooksModule;
  readonly jobs: JobsModule;
  /** A tenant and its admin's key. */
  tenant(name?: string): Promise<{ readonly id: string; readonly uuid: string; readonly key: string }>;
  /** Tells one `security.alerted.v1` of a tenant, whose summary it is. */
  tell(tenantUuid: string, summary: string): Promise<string>;
  /** Tells that a request of a tenant was completed. */
  tellRequest(tenantUuid: string): Promise<string>;
  /** Lets every delivery that waits, and every job, be due now. */
  passTime(tenantUuid: string): Promise<void>;
  close(): Promise<void>;
}

export async function openReceiver(): Promise<Receiver> {
  const received: Received[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const headers = Object.fromEntries(
        Object.entries(request.headers).map(([name, value]) => [name, value?.toString()]),
      );
      const message = { headers, body: Buffer.concat(chunks).toString(), url: request.url ?? '' };
      received.push(message);
      receiver.respond(message, response);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const receiver: Receiver = {
    url: `http://127.0.0.1:${port}/hook`,
    received,
    respond: (_message, response) => response.writeHead(204).end(),
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return receiver;
}

/**
 * @param isApart whether the tenants' calls reach a process of their own (a gateway), that shares nothing but the database
 *   with the one that consumes events; default false
 */
export async function openWebhooks(
  adapter: TestAdapter,
  rounds: RoundSettings = {},
  isApart = false,
): Promise<OpenWebhooks> {
  const database = await openTestDatabase({ adapter });
  const { db } = database;
  const read = readOutboundAllowances('127.0.0.1:*');
  if ('wrong' in read) throw new Error('the list cannot be read');
  const guarded = createGuardedClient({ metrics: noMetrics }, { allow: read.allowances.all });
  const jobs = createJobs(
    {
      db,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      operatorRoute,
      creatingOperatorRoute,
      requireTenant: () => Promise.resolve(),
    },
    { isWorker: true, pollMs: 50, upkeepMs: 600_000 },
  );
  const deps = {
    db,
    guarded,
    jobs: () => jobs.api,
    sealer: createSealer(randomBytes(32)),
    clock: systemClock,
    logger: silentLogger,
    metrics: noMetrics,
    random: Math.random,
  };
  const webhooks = createWebhooks(deps, rounds);
  const gateway = isApart ? createWebhooks(deps, rounds) : webhooks;
  jobs.register(webhooks.jobs);
  const plane = await openControlPlane(db, { routes: () => gateway.routes });
  const carrier = createLogCarrier({ db, clock: systemClock, logger: silentLogger });
  const dispatcher: Dispatcher = createDispatcher(
    {
      db,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      tracer: plane.telemetry.tracer,
      carrier,
    },
    webhooks.consumers,
    { retryDelaysMs: [10, 10], retryPollMs: 30 },
  );
  await jobs.lifecycle.start();
  await dispatcher.start();
  return {
    database,
    plane,
    webhooks,
    jobs,
    tenant: (name = 'Acme') => makeTenant(plane, name),
    async tell(tenantUuid, summary) {
      const eventId = newUuid();
      await db.withTenant({ tenantId: tenantUuid }, (tx) =>
        appendEvents(tx, [alert(tenantUuid, eventId, summary)]),
      );
      carrier.wake();
      return eventId;
    },
    async tellRequest(tenantUuid) {
      const eventId = newUuid();
      const data = {
        ...eventTable['request.completed.v1'].example,
        request_id: eventId,
        tenant_id: tenantUuid,
      };
      await db.withTenant({ tenantId: tenantUuid }, (tx) =>
        appendEvents(tx, [
          {
            tenantId: tenantUuid,
            eventId,
            type: 'request.completed.v1',
            keyversion: 1n,
            occurredAt: new Date(),
            data,
          },
        ]),
      );
      carrier.wake();
      return eventId;
    },
    async passTime(tenantUuid) {
      await db.withTenant({ tenantId: tenantUuid }, async (tx) => {
        // A round that is just planning its next would else miss that it is due.
        await sql`select 1 from tenant.webhook_endpoints for update`.execute(tx);
        await sql`
          update tenant.webhook_deliveries set next_attempt_at = clock_timestamp() where state = 'waiting'
        `.execute(tx);
      });
      await db.withSystem('jobs', (tx) =>
        sql`update jobs.job_common set start_after = now() where state < 'active'`.execute(tx),
      );
    },
    async close() {
      await dispatcher.stop();
      await jobs.lifecycle.stop();
      await guarded.close();
      await plane.close();
      await database.close();
    },
  };
}

function alert(tenantId: string, eventId: string, summary: string) {
  const now = new Date();
  const time = now.toISOString();
  return {
    tenantId,
    eventId,
    type: 'security.alerted.v1',
    keyversion: 1n,
    occurredAt: now,
    data: {
      alert: 'credential_misuse',
      severity: 'low',
      principal_kind: 'key',
      principal_id: eventId,
      summary,
      count: 1,
      first_seen_at: time,
      last_seen_at: time,
      request_id: null,
      remote_address: null,
    },
  } as const;
}

async function makeTenant(plane: ControlPlane, name: string) {
  const made = await plane.admin('POST', '/control/v1/tenants', { body: { name } });
  const id = textIn(made, 'id');
  const key = await plane.admin('POST', `/control/v1/tenants/${id}/keys`, {
    body: { name: 'admin', role: 'admin' },
  });
  const uuid = uuidOf(id);
  return { id, uuid, key: textIn(key, 'key') };
}

function uuidOf(id: string): string {
  const found = fromTypeId('ten', id);
  if (found === null) throw new Error(`${id} is no tenant's id`);
  return found;
}

/** A field of an answer's body that must be text. */
function textIn(answer: Answer, name: string): string {
  const { body } = answer;
  const fields = new Map<string, unknown>(
    typeof body === 'object' && body !== null ? Object.entries(body) : [],
  );
  const value = fields.get(name);
  if (typeof value !== 'string') throw new Error(`${answer.status}: no text in ${name}: ${answer.text}`);
  return value;
}

/** Waits for a condition; fails after `withinMs`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  withinMs = 15_000,
): Promise<void> {
  const endsAt = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endsAt) throw new Error(`waited ${withinMs} ms for: ${what}`);
    await pause(10);
  }
}
