/** What an attacker writes as a URL: each case as it is expected, names by its own table, redirects as it tells them. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { z } from 'zod';
import { selfSigned } from '#testing';
import { createGuardedClient } from './guarded.ts';
import { noMetrics } from './testing/no-metrics.ts';
import { playInternet } from './testing/played-internet.ts';

const cases = z.array(
  z.object({
    id: z.string(),
    cls: z.string(),
    url: z.string(),
    verdict: z.enum(['block', 'allow', 'either', 'pin', 'strip-auth']),
    equals: z.string().optional(),
    dns: z.record(z.string(), z.array(z.array(z.string()))).optional(),
    redirect: z.string().optional(),
  }),
);
type Case = z.output<typeof cases>[number];

const tenantId = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80';
const secrets = ['authorization', 'Bearer x', 'cookie', 'a=b', 'x-api-key', 'x', 'webhook-signature', 'v1,x'];

async function play({ dns = {}, redirect, url }: Case) {
  const heard: { url: string; headers: readonly string[] }[] = [];
  const names = [...Object.keys(dns), 'a.example.com'];
  const certificates = Object.fromEntries(names.map((name) => [name, selfSigned(name)]));
  const internet = await playInternet(
    dns,
    (request, response) => {
      heard.push({ url: request.url ?? '', headers: Object.keys(request.headers) });
      if (heard.length === 1 && redirect !== undefined) response.writeHead(302, { location: redirect });
      response.end('x');
    },
    certificates,
  );
  const client = createGuardedClient({ metrics: noMetrics, resolve: internet.resolve });
  try {
    const answer = await client.call({ tenantId, method: 'GET', url, headers: secrets });
    return { answer, heard, dialled: [...internet.dialled], lookups: [...internet.lookups] };
  } finally {
    await client.close();
    await internet.close();
  }
}

async function requireAsExpected(one: Case): Promise<void> {
  const { answer, heard, dialled, lookups } = await play(one);
  const told = `${one.id} ${one.cls} ${one.url}: ${JSON.stringify(answer)}`;
  const expectedHops = one.redirect === undefined ? 0 : 1;
  switch (one.verdict) {
    case 'either':
      return;
    case 'block':
      assert.equal(answer.outcome, 'refused', told);
      assert.equal(heard.length, expectedHops, `${told}: something that is blocked was reached`);
      if (one.cls === 'internal name') assert.deepEqual(lookups, [], `${told}: the name was looked up`);
      return;
    case 'strip-auth':
      assert.equal(answer.outcome, 'answered', told);
      assert.deepEqual(
        secrets.filter((name, index) => index % 2 === 0 && heard[1]?.headers.includes(name)),
        [],
        told,
      );
      return;
    case 'allow':
    case 'pin': {
      assert.equal(answer.outcome, 'answered', told);
      const first = Object.values(one.dns ?? {})[0]?.[0]?.[0];
      const expected = one.equals ?? first;
      if (expected !== undefined) assert.equal(dialled[0], expected, told);
      assert.ok(heard.length === expectedHops + 1, told);
    }
  }
}

test('every target is called, refused, pinned or stripped as expected', async () => {
  const text = await readFile(
    `${process.env['STOA_CONFORMANCE_DATA'] ?? ''}/security/ssrf-targets.json`,
    'utf8',
  );
  const all = cases.parse(JSON.parse(text));
  const wrong: string[] = [];
  for (const one of all) {
    await requireAsExpected(one).catch((error: unknown) => wrong.push(String(error)));
  }
  assert.deepEqual(wrong, []);
  console.log(`conformance: ssrf-targets ${all.length} cases`);
});
