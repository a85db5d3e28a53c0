/** The running Stoa that the gate is tried on, with its tenants and keys. */
import assert from 'node:assert/strict';
import { permissions, type Permission } from '@stoa/contracts';
import { z } from 'zod';
import { type Answer, eventually, startStoa, type StoaProcess } from '../journeys/stoa-process.ts';

const script = `
models: [{ id: echo }, { id: vectors, kind: embedding }]
rules: [{ reply: "{{last_user_message}}", tokens: { input: 5, output: 3 } }]
`;

/** A tenant, and an admin of it. */
export interface Party {
  readonly tenantId: string;
  readonly keyId: string;
  readonly key: string;
  /** As the admin; throws unless it succeeds. */
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  /** The `id` of what a POST made. */
  make(path: string, body: unknown): Promise<string>;
}

export interface Stage {
  readonly stoa: StoaProcess;
  readonly own: Party;
  readonly other: Party;
  readonly operator: Pick<Party, 'call' | 'make'>;
  /** Credentials by what they are; each is refused or admitted by the rules in `callers.ts`. */
  readonly keys: Readonly<Record<KeyName, string>>;
  /** An admin's keys that hold one permission, and all but one. */
  readonly only: Readonly<Record<Permission, string>>;
  readonly allBut: Readonly<Record<Permission, string>>;
  /** Text that no other call had. */
  fresh(): string;
  close(): Promise<void>;
}

export type KeyName =
  | 'admin'
  | 'developer'
  | 'viewer'
  | 'revoked'
  | 'expired'
  | 'suspended'
  | 'deleted'
  | 'project'
  | 'elsewhere'
  | 'token'
  | 'endUserToken'
  | 'revokedToken'
  | 'expiredToken'
  | 'operator'
  | 'operatorReadonly'
  | 'operatorRevoked'
  | 'operatorExpired';

const made = z.looseObject({ id: z.string() });
const madeKey = made.extend({ key: z.string() });
const madeToken = made.extend({ token: z.string() });
const lifeMs = 1_500;

export function idIn(answer: Answer): string {
  return made.parse(answer.json).id;
}

export async function openStage(): Promise<Stage> {
  const stoa = await startStoa({ script, env: { STOA_LOG_LEVEL: 'error' } });
  let count = 0;
  const fresh = (): string => `gate-${(count += 1)}`;
  const caller = (key: string): Pick<Party, 'call' | 'make'> => {
    const call: Party['call'] = async (method, path, body) => {
      const answer = await stoa.call(method, path, { key, body });
      assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
      return answer;
    };
    return { call, make: async (path, body) => idIn(await call('POST', path, body)) };
  };
  const operator = caller(stoa.credentials.operatorKey);
  const newParty = async (name: string): Promise<Party> => {
    const { tenantId, apiKey: key, keyId } = await stoa.newTenant(name);
    return { tenantId, keyId, key, ...caller(key) };
  };
  const newKey = async (tenantId: string, body: object) =>
    madeKey.parse((await operator.call('POST', `/control/v1/tenants/${tenantId}/keys`, body)).json);
  const newOperatorKey = async (body: object) =>
    madeKey.parse((await operator.call('POST', '/control/v1/operator-keys', body)).json);
  const [own, other, suspended, deleted] = [
    await newParty('own'),
    await newParty('other'),
    await newParty('suspended'),
    await newParty('deleted'),
  ];
  const ofRole = async (role: string, more: object = {}): Promise<string> =>
    (await newKey(own.tenantId, { name: role, role, ...more })).key;
  const scoped = async (scopesOf: (permission: Permission) => readonly Permission[]) => {
    const keys = await Promise.all(
      permissions.map(async (name) => [name, await ofRole('admin', { scopes: scopesOf(name) })] as const),
    );
    return byPermission(new Map(keys));
  };
  const only = await scoped((name) => [name]);
  const allBut = await scoped((name) => permissions.filter((one) => one !== name));
  const revoked = await newKey(own.tenantId, { name: 'revoked', role: 'admin' });
  const operatorRevoked = await newOperatorKey({ name: 'revoked' });
  const newToken = async (body: object) => madeToken.parse((await own.call('POST', '/v1/tokens', body)).json);
  const revokedToken = await newToken({});
  const soon = new Date(Date.now() + lifeMs).toISOString();
  const keys: Stage['keys'] = {
    admin: own.key,
    developer: await ofRole('developer'),
    viewer: await ofRole('viewer'),
    project: await ofRole('admin', { project_id: 'one' }),
    elsewhere: await ofRole('admin', { allowed_ips: ['203.0.113.0/24'] }),
    token: (await newToken({})).token,
    endUserToken: (await newToken({ end_user: 'visitor' })).token,
    revokedToken: revokedToken.token,
    expiredToken: (await newToken({ expires_in: 1 })).token,
    revoked: revoked.key,
    expired: (await newKey(own.tenantId, { name: 'expired', role: 'admin', expires_at: soon })).key,
    suspended: suspended.key,
    deleted: deleted.key,
    operator: stoa.credentials.operatorKey,
    operatorReadonly: (await newOperatorKey({ name: 'readonly', role: 'operator-readonly' })).key,
    operatorRevoked: operatorRevoked.key,
    operatorExpired: (await newOperatorKey({ name: 'expired', expires_at: soon })).key,
  };
  await operator.call('DELETE', `/control/v1/tenants/${own.tenantId}/keys/${revoked.id}`);
  await operator.call('DELETE', `/control/v1/operator-keys/${operatorRevoked.id}`);
  await own.call('POST', '/v1/tokens/revoke', { token_id: revokedToken.id });
  await operator.call('PATCH', `/control/v1/tenants/${suspended.tenantId}`, { state: 'suspended' });
  await operator.call('DELETE', `/control/v1/tenants/${deleted.tenantId}`);
  await eventually('end of the keys that expire', async () => {
    const asked = [
      stoa.call('GET', '/v1/models', { key: keys.expired }),
      stoa.call('GET', '/v1/models', { key: keys.expiredToken }),
      stoa.call('GET', '/control/v1/tenants', { key: keys.operatorExpired }),
    ];
    return (await Promise.all(asked)).every(({ status }) => status === 401);
  });
  return { stoa, own, other, operator, keys, only, allBut, fresh, close: () => stoa.dispose() };
}

function byPermission(keys: ReadonlyMap<Permission, string>): Readonly<Record<Permission, string>> {
  const all: Partial<Record<Permission, string>> = Object.fromEntries(keys);
  assert.ok(isWhole(all));
  return all;
}

function isWhole(keys: Partial<Record<Permission, string>>): keys is Record<Permission, string> {
  return permissions.every((name) => keys[name] !== undefined);
}
