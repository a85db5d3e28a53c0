/**
 * The tenants of the failure tests: called the same in everything that a tenant may choose, each with a key that was made
 * over the API; and what each of them sees of its own requests, and must not see of the others'.
 */
import assert from 'node:assert/strict';
import { request } from 'undici';
import { z } from 'zod';
import { createdApiKey, explainedRequest, tenant } from '@stoa/contracts';
import type { ClientView } from './load.ts';

export interface FailureTenant {
  /** `ten_...` */
  readonly id: string;
  readonly keyId: string;
  readonly key: string;
}

export interface Operator {
  readonly adminUrl: string;
  readonly operatorKey: string;
}

const pageLimit = 100;
/** How many of each other tenant's requests a tenant asks for by id. */
const strangersAsked = 3;
const page = z.object({
  data: z.array(explainedRequest),
  has_more: z.boolean(),
  last_id: z.string().nullable(),
});

export async function makeTenants(operator: Operator, count: number): Promise<readonly FailureTenant[]> {
  const made: FailureTenant[] = [];
  for (let index = 0; index < count; index += 1) {
    const { id } = tenant.parse(await post(operator, '/control/v1/tenants', { name: 'Same name' }));
    const wanted = { name: 'Same key', role: 'admin' };
    const key = createdApiKey.parse(await post(operator, `/control/v1/tenants/${id}/keys`, wanted));
    made.push({ id, keyId: key.id, key: key.key });
  }
  return made;
}

async function post({ adminUrl, operatorKey }: Operator, path: string, body: unknown): Promise<unknown> {
  const answer = await request(`${adminUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${operatorKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await answer.body.text();
  assert.equal(answer.statusCode, 201, text);
  return JSON.parse(text);
}

/**
 * Each tenant lists its requests since `from`: those that its clients saw completed are all there, and none is of a key that
 * is not its own. What is another's is not found by its id. Answers how many requests the tenants saw together.
 */
export async function checkSeen(
  url: string,
  tenants: readonly FailureTenant[],
  view: ClientView,
  from: Date,
): Promise<number> {
  const look = async (one: FailureTenant, index: number): Promise<number> => {
    const listed = await listAll(url, one, from);
    for (const { id, key_id: keyId } of listed.values())
      assert.equal(keyId, one.keyId, `${one.id} sees ${id}, which was asked for with the key ${keyId}`);
    for (const [id, by] of view.completed)
      assert.equal(listed.has(id), by === index, `${id}, asked for with key ${by}, in the list of ${one.id}`);
    for (const stranger of strangersOf(index, view)) {
      const { status } = await get(url, one, `/v1/requests/${stranger}`);
      assert.equal(status, 404, `${one.id} asks for ${stranger}, which is another tenant's`);
    }
    return listed.size;
  };
  const seen = await Promise.all(tenants.map(look));
  return seen.reduce((sum, count) => sum + count, 0);
}

/** Some completed requests of each other tenant. */
function strangersOf(index: number, view: ClientView): readonly string[] {
  const taken = new Map<number, string[]>();
  for (const [id, by] of view.completed) {
    const ids = taken.get(by) ?? [];
    if (by !== index && ids.length < strangersAsked) taken.set(by, [...ids, id]);
  }
  return [...taken.values()].flat();
}

type Listed = ReadonlyMap<string, z.infer<typeof explainedRequest>>;

async function listAll(url: string, one: FailureTenant, from: Date): Promise<Listed> {
  const listed = new Map<string, z.infer<typeof explainedRequest>>();
  let after = '';
  for (;;) {
    const path = `/v1/requests?limit=${pageLimit}&from=${from.toISOString()}${after}`;
    const { status, text } = await get(url, one, path);
    assert.equal(status, 200, text);
    const { data, has_more: hasMore, last_id: lastId } = page.parse(JSON.parse(text));
    for (const item of data) listed.set(item.id, item);
    if (!hasMore || lastId === null) return listed;
    after = `&after=${lastId}`;
  }
}

async function get(
  url: string,
  { key }: FailureTenant,
  path: string,
): Promise<{ readonly status: number; readonly text: string }> {
  const answer = await request(`${url}${path}`, {
    headers: { authorization: `Bearer ${key}`, connection: 'close' },
    signal: AbortSignal.timeout(10_000),
  });
  return { status: answer.statusCode, text: await answer.body.text() };
}
