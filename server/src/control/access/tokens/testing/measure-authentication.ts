/**
 * What it costs to authenticate, by a key and by an access token that this process has seen, and to decide on a
 * permission, in microseconds of a call:
 * `node server/src/control/access/tokens/testing/measure-authentication.ts [callers]`. Callers take turns, so that no
 * single entry stays in the processor's caches. The median of the rounds is what to look at on a busy machine.
 */

import { accessToken, createdApiKey, tenant } from '@stoa/contracts';
import { requirePermission } from '#kernel';
import { openControlPlane, openTestDatabase } from '#testing';

const callers = Number(process.argv[2] ?? 200);
const rounds = 15;
const callsPerRound = 100_000;

const database = await openTestDatabase({ adapter: 'pglite' });
const plane = await openControlPlane(database.db);
const keys: string[] = [];
const tokens: string[] = [];
for (let number = 0; number < callers; number += 1) {
  const made = await plane.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } });
  const { id } = tenant.parse(made.body);
  const body = { name: 'key', role: 'developer' };
  const { key } = createdApiKey.parse(
    (await plane.admin('POST', `/control/v1/tenants/${id}/keys`, { body })).body,
  );
  const answer = await plane.open('POST', '/v1/tokens', { key, body: { end_user: `user-${number}` } });
  keys.push(`Bearer ${key}`);
  tokens.push(`Bearer ${accessToken.parse(answer.body).token}`);
}

/** Flat copies, as they come out of a request's head: a string that was seen before has its hash already. */
function fresh(headers: readonly string[]): string[] {
  return headers.map((header) => Buffer.from(header).toString('latin1'));
}

async function measure(name: string, headers: readonly string[]): Promise<void> {
  const { authenticator } = plane.access;
  for (const header of headers) await authenticator.tenant(header, '203.0.113.5');
  const times: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    let spentMs = 0;
    for (let done = 0; done < callsPerRound; done += headers.length) {
      const copies = fresh(headers);
      const startedMs = performance.now();
      for (const header of copies) {
        const found = authenticator.tenant(header, '203.0.113.5');
        if (found instanceof Promise) throw new Error('it was not in the cache');
      }
      spentMs += performance.now() - startedMs;
    }
    times.push((spentMs * 1000) / (Math.ceil(callsPerRound / headers.length) * headers.length));
  }
  times.sort((one, other) => one - other);
  const at = (share: number): string => (times[Math.floor((times.length - 1) * share)] ?? 0).toFixed(2);
  console.log(`${name}: median ${at(0.5)} us, best ${at(0)} us, worst ${at(1)} us`);
}

async function measureDecision(): Promise<void> {
  const principal = await plane.access.authenticator.tenant(tokens[0], '203.0.113.5');
  const decisions = callsPerRound * 10;
  let leastUs = Infinity;
  for (let round = 0; round < rounds; round += 1) {
    const startedMs = performance.now();
    for (let done = 0; done < decisions; done += 1) requirePermission(principal, 'chat:create');
    leastUs = Math.min(leastUs, ((performance.now() - startedMs) * 1000) / decisions);
  }
  console.log(`a permission that a token with scopes holds: best ${leastUs.toFixed(3)} us`);
}

await measure(`${callers} keys in turn`, keys);
await measure(`${callers} tokens in turn (${tokens[0]?.length ?? 0} characters)`, tokens);
await measureDecision();
await plane.close();
await database.close();
