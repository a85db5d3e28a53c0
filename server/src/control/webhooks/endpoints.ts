import type { ChangeWebhookBody, CreateWebhookBody, WebhookObject, WebhookWithSecret } from '@stoa/contracts';
import type { Database, TenantHandle } from '#db';
import { appendEvents, changedFields, controlChanged } from '#events';
import type { GuardedClient } from '#http';
import {
  AppError,
  type Clock,
  newUuid,
  type Page,
  pageOf,
  requireVersion,
  type Sealer,
  type TenantActing,
} from '#kernel';
import { failWaiting, hasManyDeliveries } from './deliveries.sql.ts';
import { endpointIdOf, noSuchPlace, placeOf, unknownWebhook, webhookObject } from './objects.ts';
import { makeSecret } from './signing.ts';
import {
  countEndpoints,
  deleteEndpoint,
  type EndpointRow,
  type EndpointValues,
  giveUpUntilNow,
  insertEndpoint,
  lockEndpoint,
  markDeleted,
  replaceSecret,
  selectEndpoint,
  selectEndpoints,
  updateEndpoint,
} from './webhooks.sql.ts';

export interface EndpointStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly sealer: Sealer;
  readonly guarded: Pick<GuardedClient, 'check'>;
}

type Answering<Made, Answer> = (tx: TenantHandle, made: Made) => Promise<Answer>;

/** Errors: `not_found` also for webhooks of other tenants; `invalid_request` for a URL that is not called. */
export interface EndpointStore {
  /** The secret is in what `answer` gets, and nowhere else after that. */
  create<Answer>(
    by: TenantActing,
    body: CreateWebhookBody,
    answer: Answering<WebhookWithSecret, Answer>,
  ): Promise<Answer>;
  list(by: TenantActing, page: { after: string | null; limit: number }): Promise<Page<WebhookObject>>;
  read(by: TenantActing, id: string): Promise<WebhookObject>;
  change(
    by: TenantActing,
    id: string,
    body: ChangeWebhookBody,
    ifMatch: string | null,
  ): Promise<WebhookObject>;
  delete(by: TenantActing, id: string, ifMatch: string | null): Promise<void>;
  rotate<Answer>(
    by: TenantActing,
    id: string,
    overlapSeconds: number,
    ifMatch: string | null,
    answer: Answering<WebhookWithSecret, Answer>,
  ): Promise<Answer>;
}

const endpointsAtMost = 50;

/** What binds a sealed secret to its place. */
export function secretPlace(row: { readonly tenant_id: string; readonly endpoint_id: string }): string {
  return `tenant:webhook_endpoints:secret:${row.tenant_id}:${row.endpoint_id}`;
}

export function createEndpointStore(deps: EndpointStoreDeps): EndpointStore {
  const { db, clock } = deps;
  const shown = (row: EndpointRow): WebhookObject => webhookObject(row, new Date(clock.now()));
  return {
    create: (by, body, answer) => create(deps, by, body, answer),
    rotate: (by, id, overlapSeconds, ifMatch, answer) =>
      rotate(deps, { by, id, ifMatch }, overlapSeconds, answer),

    async list(by, { after, limit }) {
      const cursor = after === null ? null : placeOf('whe', after);
      const rows = await db.withTenant(by, (tx) =>
        selectEndpoints(tx, by.tenantId, { after: cursor, limit }),
      );
      if (rows !== null) return pageOf(rows.map(shown), limit, (webhook) => webhook.id);
      return noSuchPlace('whe');
    },

    async read(by, id) {
      const row = await db.withTenant(by, (tx) => selectEndpoint(tx, by.tenantId, endpointIdOf(id)));
      return shown(row ?? unknownWebhook());
    },

    async change(by, id, body, ifMatch) {
      if (body.url !== undefined) requireCallable(deps, by, body.url);
      const row = await db.withTenant(by, async (tx) => {
        const found = await locked(tx, by, id, ifMatch);
        const changed = await updateEndpoint(tx, by.tenantId, found.endpoint_id, changedValues(found, body));
        if (changed.disabled_reason !== null || found.disabled_reason !== null) await giveUp(tx, changed);
        await tell(tx, by, { action: 'webhooks.change', change: changeOf(found, changed) }, found, changed);
        return changed;
      });
      return shown(row);
    },

    async delete(by, id, ifMatch) {
      await db.withTenant(by, async (tx) => {
        const found = await locked(tx, by, id, ifMatch);
        const isLarge = await hasManyDeliveries(tx, by.tenantId, found.endpoint_id);
        await (isLarge ? markDeleted : deleteEndpoint)(tx, by.tenantId, found.endpoint_id);
        const gone = { ...found, version: found.version + 1n, changed_at: new Date(clock.now()) };
        await tell(tx, by, { action: 'webhooks.delete', change: 'deleted' }, found, gone);
      });
    },
  };
}

/** What waits for an endpoint that is or was disabled: some at once, and the rest is marked for the rounds and the upkeep. */
async function giveUp(
  tx: TenantHandle,
  { tenant_id: tenantId, endpoint_id: endpointId }: EndpointRow,
): Promise<void> {
  if (await failWaiting(tx, tenantId, endpointId, 'all')) return;
  await giveUpUntilNow(tx, tenantId, endpointId);
}

async function create<Answer>(
  deps: EndpointStoreDeps,
  by: TenantActing,
  body: CreateWebhookBody,
  answer: Answering<WebhookWithSecret, Answer>,
): Promise<Answer> {
  const { db, clock, sealer } = deps;
  requireCallable(deps, by, body.url);
  const { tenantId } = by;
  const endpointId = newUuid();
  const { secret, publicKey } = makeSecret(body.signature);
  return db.withTenant(by, async (tx) => {
    if ((await countEndpoints(tx, tenantId)) >= endpointsAtMost)
      throw new AppError('conflict', `A tenant has at most ${endpointsAtMost} webhooks; delete one first.`);
    const place = secretPlace({ tenant_id: tenantId, endpoint_id: endpointId });
    const sealed = sealer.seal(secret, place);
    const made = { tenantId, endpointId, signature: body.signature, secret: sealed, publicKey };
    const row = await insertEndpoint(
      tx,
      { ...made, createdBy: `${by.actor.type}:${by.actor.id}` },
      {
        url: body.url,
        description: body.description,
        eventTypes: body.event_types,
        disabledReason: body.enabled ? null : 'tenant',
      },
    );
    await tell(tx, by, { action: 'webhooks.create', change: 'created' }, null, row);
    return answer(tx, withSecret(row, secret, new Date(clock.now())));
  });
}

async function rotate<Answer>(
  deps: EndpointStoreDeps,
  { by, id, ifMatch }: { by: TenantActing; id: string; ifMatch: string | null },
  overlapSeconds: number,
  answer: Answering<WebhookWithSecret, Answer>,
): Promise<Answer> {
  const { db, clock, sealer } = deps;
  return db.withTenant(by, async (tx) => {
    const found = await locked(tx, by, id, ifMatch);
    const { secret, publicKey } = makeSecret(found.signature);
    const now = new Date(clock.now());
    const previousUntil = overlapSeconds === 0 ? null : new Date(now.getTime() + overlapSeconds * 1000);
    const sealed = sealer.seal(secret, secretPlace(found));
    const row = await replaceSecret(tx, by.tenantId, found.endpoint_id, {
      secret: sealed,
      publicKey,
      previousUntil,
    });
    await tell(tx, by, { action: 'webhooks.rotate-secret', change: 'changed' }, found, row);
    return answer(tx, withSecret(row, secret, now));
  });
}

function withSecret(row: EndpointRow, secret: string, now: Date): WebhookWithSecret {
  return { ...webhookObject(row, now), secret: row.signature === 'v1' ? secret : null };
}

async function locked(
  tx: TenantHandle,
  by: TenantActing,
  id: string,
  ifMatch: string | null,
): Promise<EndpointRow> {
  const row = (await lockEndpoint(tx, by.tenantId, endpointIdOf(id))) ?? unknownWebhook();
  requireVersion(ifMatch, Number(row.version));
  return row;
}

/** What the tenant's URL is refused for is told where it is given, as far as its text says. */
function requireCallable({ guarded }: EndpointStoreDeps, { tenantId }: TenantActing, url: string): void {
  const refusal = guarded.check(url, tenantId);
  if (refusal === null) return;
  throw new AppError('invalid_request', `url: ${refusal.detail}.`, { param: 'url' });
}

function changedValues(row: EndpointRow, body: ChangeWebhookBody): EndpointValues {
  const enabledOrNot = body.enabled === true ? null : (row.disabled_reason ?? 'tenant');
  return {
    url: body.url ?? row.url,
    description: body.description ?? row.description,
    eventTypes: body.event_types ?? row.event_types,
    disabledReason: body.enabled === undefined ? row.disabled_reason : enabledOrNot,
  };
}

function changeOf(before: EndpointRow, after: EndpointRow): string {
  if (before.disabled_reason === null && after.disabled_reason !== null) return 'suspended';
  return before.disabled_reason !== null && after.disabled_reason === null ? 'resumed' : 'changed';
}

/** Event and audit of a change, in its transaction. */
async function tell(
  tx: TenantHandle,
  by: TenantActing,
  { action, change }: { readonly action: string; readonly change: string },
  before: EndpointRow | null,
  after: EndpointRow,
): Promise<void> {
  const changedBy = `${by.actor.type}:${by.actor.id}`;
  await appendEvents(tx, [endpointTold(before, after, change, changedBy)]);
  const shownBefore = before === null ? undefined : webhookObject(before, before.changed_at);
  const shownAfter = webhookObject(after, after.changed_at);
  await tx.audit({
    action,
    resource: { type: 'webhook', id: shownAfter.id },
    ...(shownBefore === undefined ? {} : { before: shownBefore }),
    ...(change === 'deleted' ? {} : { after: shownAfter }),
  });
}

/** `control.changed.v1` of a webhook. */
export function endpointTold(
  before: EndpointRow | null,
  after: EndpointRow,
  change: string,
  changedBy: string,
): ReturnType<typeof controlChanged> {
  const fields = (row: EndpointRow) => ({
    url: row.url,
    description: row.description,
    event_types: row.event_types,
    disabled_reason: row.disabled_reason,
    secret: row.secret,
  });
  return controlChanged(
    { tenantId: after.tenant_id, changedAt: after.changed_at },
    {
      resource: 'webhook',
      resource_id: after.endpoint_id,
      change,
      version: Number(after.version),
      state: stateOf(after, change),
      name: after.description === '' ? null : after.description,
      changed_fields: before === null ? [] : changedFields(fields(before), fields(after)),
      changed_by: changedBy,
    },
  );
}

function stateOf(row: EndpointRow, change: string): string {
  if (change === 'deleted') return 'deleted';
  return row.disabled_reason === null ? 'active' : 'suspended';
}
