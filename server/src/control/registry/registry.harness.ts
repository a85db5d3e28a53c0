/** What the tests of the registry stand on: a database, a server that lists models, the registry and its API over HTTP. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  type ControlModel,
  controlModel,
  createdApiKey,
  errorTable,
  type Provider,
  provider,
  tenant,
} from '@stoa/contracts';
import { asTenantId, createSealer, fromTypeId, type TenantId } from '#kernel';
import type { Target } from '#models';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';
import { type ListingServer, openListingServer, openRegistry, type TestRegistry } from './testing.ts';

export const secret = 'sk-very-secret-credential-1234';
export const sealer = createSealer(randomBytes(32));
const priceOf = (target: Target) =>
  target.priceKey.model === 'priced-model' ? { input: '0.000001', output: '0.000002' } : null;

export const providersPath = '/control/v1/providers';
export const modelsPath = '/control/v1/models';
export const unknownProvider = 'prov_01h455vb4pex5vsknk084sn02q';
export const unknownModel = 'mod_01h455vb4pex5vsknk084sn02q';

export interface RegistryStage {
  readonly database: TestDatabase;
  readonly upstream: ListingServer;
  readonly registry: TestRegistry;
  readonly plane: ControlPlane;
  /** Makes one with a name of its own, that lists nothing. */
  addProvider(values?: Record<string, unknown>): Promise<Provider>;
  addModel(values: Record<string, unknown>): Promise<ControlModel>;
  /** Makes a tenant and a key of it; the role is `admin` unless told. */
  newTenantKey(role?: string): Promise<{ readonly id: TenantId; readonly key: string }>;
  close(): Promise<void>;
}

export async function openRegistryStage(): Promise<RegistryStage> {
  const database = await openTestDatabase();
  const upstream = await openListingServer(['first', 'second/with slash', 'text-embedding-x']);
  const registry = openRegistry(database.db, {
    sealer,
    priceOf,
    openai: { baseUrl: upstream.baseUrl, apiKey: null },
  });
  await registry.lifecycle.start();
  const plane = await openControlPlane(database.db, { routes: () => registry.routes });
  let made = 0;
  return {
    database,
    upstream,
    registry,
    plane,
    async addProvider(values: Record<string, unknown> = {}): Promise<Provider> {
      made++;
      const body = {
        name: `p${made}`,
        kind: 'openai-compatible',
        base_url: 'http://127.0.0.1:9/v1',
        discover: false,
        ...values,
      };
      const answer = await plane.admin('POST', providersPath, { body });
      assert.equal(answer.status, 201, answer.text);
      return provider.strict().parse(answer.body);
    },

    async addModel(values: Record<string, unknown>): Promise<ControlModel> {
      const answer = await plane.admin('POST', modelsPath, { body: values });
      assert.equal(answer.status, 201, answer.text);
      return controlModel.strict().parse(answer.body);
    },

    async newTenantKey(role = 'admin'): Promise<{ readonly id: TenantId; readonly key: string }> {
      const made = tenant.parse(
        (await plane.admin('POST', '/control/v1/tenants', { body: { name: 'T' } })).body,
      );
      const path = `/control/v1/tenants/${made.id}/keys`;
      const { key } = createdApiKey.parse(
        (await plane.admin('POST', path, { body: { name: 'k', role } })).body,
      );
      return { id: asTenantId(fromTypeId('ten', made.id) ?? ''), key };
    },
    async close() {
      await plane.close();
      await registry.close();
      await upstream.close();
      await database.close();
    },
  };
}

/** Code and field of a refusal, whose status must be that of its code. */
export function refusal(answer: Answer): { code: string; param: string | null } {
  const { code, param, status } = errorIn(answer);
  const row = Object.entries(errorTable).find(([name]) => name === code)?.[1];
  assert.equal(status, row?.status);
  return { code, param };
}
