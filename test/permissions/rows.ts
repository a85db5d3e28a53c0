/**
 * One row for each operation of the OpenAPI document. `npm test -- test/permissions` says which are missing and what is
 * wrong with a new one. A line is enough where the example of the endpoint can be answered as it stands:
 *
 *     'things.list': { needs: 'things:read' },
 */
import type { OperatorPermission, Permission } from '@stoa/contracts';
import { headerOf } from '../journeys/answer-shapes.ts';
import type { Party, Stage } from './stage.ts';

export interface Given {
  readonly params?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

export interface Row {
  /** Said here a second time, so that nobody widens an endpoint's own by mistake. */
  readonly needs: Permission | OperatorPermission | 'anyone';
  /** What whoever may is answered. Default: the first success that the endpoint documents. */
  readonly answers?: number;
  /**
   * What to send for that; called for each caller, since some operations use up what they are called for. The ids are of
   * `of`, a tenant. Default: the endpoint's example, `{id}` of `/control/v1/tenants/{id}` being the tenant.
   */
  given?(stage: Stage, of: Party): Given | Promise<Given>;
  /** What it makes holds, or is sent, more than its own permission, so that a key of that one scope is refused it. */
  readonly grants?: true;
  /** What the ids name is the platform's, the same for every tenant. */
  readonly isShared?: true;
}

const anyone: Row = { needs: 'anyone' };
const read: Row = { needs: 'control:read' };
const write: Row = { needs: 'control:write' };

const provider = { kind: 'openai-compatible', base_url: 'http://127.0.0.1:9/v1', discover: false };
const webhook = { url: 'https://203.0.114.7/stoa', event_types: ['*'] };
const chat = { model: 'echo', messages: [{ role: 'user', content: 'x' }] };

/** A key that every caller who may manage keys may grant. */
const newKey = async (_stage: Stage, of: Party): Promise<Given> => ({
  params: { id: await of.make('/v1/keys', { name: 'k', role: 'admin', scopes: ['keys:write'] }) },
});
const keyOfTenant = async (_stage: Stage, of: Party): Promise<Given> => ({
  params: { id: of.tenantId, key_id: await of.make('/v1/keys', { name: 'k', role: 'viewer' }) },
});
const newTenant = async (stage: Stage): Promise<Given> => ({
  params: { id: await stage.operator.make('/control/v1/tenants', { name: 'gate' }) },
});
const newProvider = async ({ operator, fresh }: Stage): Promise<string> =>
  operator.make('/control/v1/providers', { name: fresh(), ...provider });
const providerGiven = async (stage: Stage): Promise<Given> => ({ params: { id: await newProvider(stage) } });
const modelGiven = async (stage: Stage): Promise<Given> => {
  const body = { target: stage.fresh(), provider_id: await newProvider(stage) };
  return { params: { id: await stage.operator.make('/control/v1/models', body) } };
};
const operatorKeyGiven = async ({ operator, fresh }: Stage): Promise<Given> => ({
  params: { id: await operator.make('/control/v1/operator-keys', { name: fresh() }) },
});
const newMember = async ({ fresh }: Stage, of: Party): Promise<Given> => ({
  params: { id: await of.make('/v1/members', { name: fresh(), role: 'viewer' }) },
});
const memberOfTenant = async ({ fresh }: Stage, of: Party): Promise<Given> => ({
  params: { id: of.tenantId, member_id: await of.make('/v1/members', { name: fresh(), role: 'viewer' }) },
});
const issuerBody = ({ fresh }: Stage, { tenantId }: Party) => ({
  name: 'Identity provider',
  issuer: `https://id.example.com/${fresh()}`,
  jwks_url: 'https://id.example.com/jwks.json',
  audience: `stoa:${tenantId}`,
  claims: { member: 'sub' },
});
const newIssuer = async (stage: Stage, of: Party): Promise<Given> => ({
  params: { id: await of.make('/v1/issuers', issuerBody(stage, of)) },
});
const issuerOfTenant = async (stage: Stage, of: Party): Promise<Given> => ({
  params: { id: of.tenantId, issuer_id: await of.make('/v1/issuers', issuerBody(stage, of)) },
});
const newWebhook = async (_stage: Stage, of: Party): Promise<Given> => ({
  params: { id: await of.make('/v1/webhooks', webhook) },
});
const newDelivery = async (stage: Stage, of: Party): Promise<Given> => {
  const { params } = await newWebhook(stage, of);
  return {
    params: { ...params, delivery_id: await of.make(`/v1/webhooks/${params?.['id'] ?? ''}/test`, {}) },
  };
};
const keyPolicy = { max_lifetime_days: null, allow_no_expiry: true };
const job = { name: 'tenant-purge' };

function and(given: NonNullable<Row['given']>, body: unknown): NonNullable<Row['given']> {
  return async (stage, of) => ({ ...(await given(stage, of)), body });
}

export const rows: Readonly<Record<string, Row>> = {
  'health.live': anyone,
  'health.ready': anyone,
  'openapi.read': anyone,
  'metrics.read': anyone,
  'jwks.read': anyone,

  'chat.completions.create': { needs: 'chat:create', given: () => ({ body: chat }) },
  'responses.create': { needs: 'chat:create', answers: 404 },
  'embeddings.create': {
    needs: 'embeddings:create',
    given: () => ({ body: { model: 'vectors', input: 'x' } }),
  },
  'models.list': { needs: 'models:read' },
  'models.read': { needs: 'models:read', given: () => ({ params: { id: 'echo' } }), isShared: true },
  'requests.list': { needs: 'requests:read' },
  'requests.read': {
    needs: 'requests:read',
    given: async (_stage, of) => ({
      params: { id: headerOf(await of.call('POST', '/v1/chat/completions', chat), 'x-request-id') },
    }),
  },
  'usage.read': { needs: 'usage:read' },
  'policy.read': { needs: 'policy:read' },
  'policy.replace': { needs: 'policy:write', given: () => ({ body: {} }) },
  'events.read-own': { needs: 'events:read', answers: 404 },
  'dead-letters.list-own': { needs: 'events:read' },
  'dead-letters.read-own': { needs: 'events:read', answers: 404 },

  'webhooks.list': { needs: 'webhooks:read' },
  'webhooks.create': { needs: 'webhooks:write', given: () => ({ body: webhook }), grants: true },
  'webhooks.read': { needs: 'webhooks:read', given: newWebhook },
  'webhooks.change': { needs: 'webhooks:write', given: and(newWebhook, { description: 'changed' }) },
  'webhooks.delete': { needs: 'webhooks:write', given: newWebhook },
  'webhooks.rotate-secret': { needs: 'webhooks:write', given: and(newWebhook, { overlap_seconds: 60 }) },
  'webhooks.test': { needs: 'webhooks:write', given: and(newWebhook, {}) },
  'webhooks.deliveries.list': { needs: 'webhooks:read', given: newWebhook },
  'webhooks.deliveries.read': { needs: 'webhooks:read', given: newDelivery },
  'webhooks.deliveries.redeliver': { needs: 'webhooks:write', given: and(newDelivery, {}) },
  'audit.list-own': { needs: 'audit:read' },
  'audit.export-own': { needs: 'audit:read' },
  'limits.read': { needs: 'policy:read' },

  'keys.list': { needs: 'keys:read' },
  'keys.create': {
    needs: 'keys:write',
    given: () => ({ body: { name: 'k', role: 'admin', scopes: ['keys:write'] } }),
  },
  'keys.read': { needs: 'keys:read', given: newKey },
  'keys.change': { needs: 'keys:write', given: and(newKey, { name: 'other name' }) },
  'keys.revoke': { needs: 'keys:write', given: newKey },
  'keys.rotate': { needs: 'keys:write', given: and(newKey, { overlap_seconds: 60 }) },
  'key_limits.read': { needs: 'keys:read', given: newKey },
  'key_limits.replace': { needs: 'keys:write', given: and(newKey, { rules: [] }) },
  'key_policy.read': { needs: 'policy:read' },
  'key_policy.replace': { needs: 'policy:write', given: () => ({ body: keyPolicy }) },
  'members.list': { needs: 'members:read' },
  'members.create': {
    needs: 'members:write',
    grants: true,
    given: ({ fresh }) => ({ body: { name: fresh(), role: 'viewer' } }),
  },
  'members.read': { needs: 'members:read', given: newMember },
  'members.change': { needs: 'members:write', given: and(newMember, { name: 'other name' }) },
  'members.remove': { needs: 'members:write', given: newMember },
  'tokens.create': { needs: 'tokens:create', grants: true, given: () => ({ body: { expires_in: 60 } }) },
  'tokens.revoke': { needs: 'tokens:revoke' },
  'issuers.list': { needs: 'issuers:read' },
  'issuers.create': {
    needs: 'issuers:write',
    grants: true,
    given: (stage, of) => ({ body: issuerBody(stage, of) }),
  },
  'issuers.read': { needs: 'issuers:read', given: newIssuer },
  'issuers.change': { needs: 'issuers:write', grants: true, given: and(newIssuer, { enabled: false }) },
  'issuers.delete': { needs: 'issuers:write', given: newIssuer },

  'tenants.list': read,
  'tenants.create': write,
  'tenants.read': read,
  'tenants.change': { ...write, given: and(newTenant, { name: 'changed' }) },
  'tenants.delete': { ...write, given: newTenant },
  'tenant_keys.list': read,
  'tenant_keys.create': write,
  'tenant_keys.read': { ...read, given: keyOfTenant },
  'tenant_keys.change': { ...write, given: and(keyOfTenant, { name: 'changed' }) },
  'tenant_keys.revoke': { ...write, given: keyOfTenant },
  'tenant_keys.rotate': { ...write, given: and(keyOfTenant, { overlap_seconds: 60 }) },
  'tenant_key_policy.read': read,
  'tenant_key_policy.replace': {
    ...write,
    given: (_stage, of) => ({ params: { id: of.tenantId }, body: keyPolicy }),
  },
  'tenant_members.list': read,
  'tenant_members.create': write,
  'tenant_members.read': { ...read, given: memberOfTenant },
  'tenant_members.change': { ...write, given: and(memberOfTenant, { name: 'changed' }) },
  'tenant_members.remove': { ...write, given: memberOfTenant },
  'tenant_issuers.list': read,
  'tenant_issuers.create': {
    ...write,
    given: (stage, of) => ({ params: { id: of.tenantId }, body: issuerBody(stage, of) }),
  },
  'tenant_issuers.read': { ...read, given: issuerOfTenant },
  'tenant_issuers.change': { ...write, given: and(issuerOfTenant, { enabled: false }) },
  'tenant_issuers.delete': { ...write, given: issuerOfTenant },
  'operator_keys.list': read,
  'operator_keys.create': write,
  'operator_keys.read': { ...read, given: operatorKeyGiven },
  'operator_keys.rotate': { ...write, given: and(operatorKeyGiven, { overlap_seconds: 60 }) },
  'operator_keys.revoke': { ...write, given: operatorKeyGiven },
  'audit.list': read,
  'audit.export': read,
  'tenant_limits.read': read,
  'tenant_limits.replace': {
    ...write,
    given: async (stage) => ({ ...(await newTenant(stage)), body: { rules: [] } }),
  },
  'operator_policy.read': read,
  'operator_policy.replace': { ...write, given: () => ({ body: { order: [] } }) },
  'providers.list': read,
  'providers.create': { ...write, given: ({ fresh }) => ({ body: { name: fresh(), ...provider } }) },
  'providers.read': { ...read, given: providerGiven },
  'providers.change': { ...write, given: and(providerGiven, { enabled: false }) },
  'providers.delete': { ...write, given: providerGiven },
  'control_models.list': read,
  'control_models.create': {
    ...write,
    given: async (stage) => ({ body: { target: stage.fresh(), provider_id: await newProvider(stage) } }),
  },
  'control_models.read': { ...read, given: modelGiven },
  'control_models.change': { ...write, given: and(modelGiven, { enabled: false }) },
  'control_models.delete': { ...write, given: modelGiven },
  'prices.list': read,
  'prices.import': write,
  'prices.override': write,
  'prices.remove_override': { ...write, answers: 404 },
  'events.follow': read,
  'event-replays.create': { ...write, answers: 404 },
  'event-replays.read': { ...read, answers: 404 },
  'dead-letters.list': read,
  'dead-letters.read': { ...read, answers: 404 },
  'dead-letters.redrive': write,
  'dead-letters.discard': write,
  'jobs.list': read,
  'jobs.run': { ...write, given: () => ({ params: job, body: {} }) },
  'jobs.runs.list': { ...read, given: () => ({ params: job }) },
  'jobs.runs.read': {
    ...read,
    answers: 404,
    given: () => ({ params: { ...job, id: 'job_01jz4x5t2sfkb8m6q0v9c3d7ea' } }),
  },
};
