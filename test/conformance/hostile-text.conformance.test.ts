/**
 * Strings that attack software, through a whole Stoa in every place that takes text: they reach the provider and come back
 * byte for byte, are stored and found again byte for byte (also by a process that was started later), or are refused with
 * a code where they are too long or cannot be stored. No filter judges what they look like, and nothing is a fault of ours.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import {
  echoModel,
  type EchoUpstream,
  fingerprintOf,
  startEchoUpstream,
} from '../bad-input/echo-upstream.ts';
import { errorCodeOf } from '../bad-input/error-answer.ts';
import { type Answer, eventually, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { forEach, hostileStrings, sayCases } from './vectors.ts';

const sets = hostileStrings();
const strings = [...sets.values()].flat();
const width = 8;
let upstream: EchoUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'error' } });
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

function sayAll(place: string): void {
  for (const [set, members] of sets) sayCases(`${set} ${place}`, members.length);
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\u0000');
}

/** Fails unless a refusal has one of the two codes, and a reason in the text itself. */
function assertRefusedFor(answer: Answer, text: string, isTooLongOrShort: boolean): void {
  const code = errorCodeOf(answer, JSON.stringify(text));
  if (isTooLongOrShort) assert.equal(code, 'invalid_request', answer.text);
  else {
    assert.equal(code, 'invalid_text', `${JSON.stringify(text)} is legal text: ${answer.text}`);
    assert.ok(!isStorable(text), `${JSON.stringify(text)} can be stored: ${answer.text}`);
  }
}

const wholeAnswer = z.looseObject({
  system_fingerprint: z.string(),
  choices: z.array(z.looseObject({ message: z.looseObject({ content: z.string() }) })),
});

test('as a message they reach the provider and come back byte for byte', async () => {
  await forEach(strings, width, async (text) => {
    const body = JSON.stringify({ model: echoModel, messages: [{ role: 'user', content: text }] });
    const answer = await stoa.call('POST', '/v1/chat/completions', { body });
    assert.equal(answer.status, 200, `${JSON.stringify(text)}: ${answer.text}`);
    const { system_fingerprint: fingerprint, choices } = wholeAnswer.parse(answer.json);
    assert.equal(fingerprint, fingerprintOf(body), JSON.stringify(text));
    assert.equal(choices[0]?.message.content, text);
  });
  sayAll('as a message');
});

const chunk = z.looseObject({
  choices: z.array(z.looseObject({ delta: z.looseObject({ content: z.string().optional() }) })),
});

/** The text of a stream's deltas, and whether it ended as it must. */
function readStream(answer: string): { content: string; isDone: boolean } {
  let content = '';
  let isDone = false;
  for (const frame of answer.split('\n\n')) {
    if (!frame.startsWith('data: ')) continue;
    if (frame === 'data: [DONE]') isDone = true;
    else
      for (const { delta } of chunk.parse(JSON.parse(frame.slice(6))).choices) content += delta.content ?? '';
  }
  return { content, isDone };
}

test('as a message of a stream they come back byte for byte', async () => {
  await forEach(strings, width, async (text) => {
    const body = { model: echoModel, stream: true, messages: [{ role: 'user', content: text }] };
    const answer = await stoa.call('POST', '/v1/chat/completions', { body });
    assert.deepEqual(readStream(answer.text), { content: text, isDone: true }, JSON.stringify(text));
  });
  sayAll('as a streamed message');
});

const explained = z.looseObject({
  id: z.string(),
  end_user: z.string().nullable(),
  tags: z.record(z.string(), z.string()),
});

test('as end users and tags they are found again byte for byte, also after a restart', async () => {
  const stored = new Map<string, { text: string; tags: Record<string, string> }>();
  await forEach(strings, width, async (text) => {
    const isName = text.length >= 1 && text.length <= 64;
    const metadata = { label: text, ...(isName ? { [text]: 'named' } : {}) };
    const body = { model: echoModel, messages: [{ role: 'user', content: 'hi' }], user: text, metadata };
    const answer = await stoa.call('POST', '/v1/chat/completions', { body });
    if (answer.status === 200) stored.set(String(answer.headers['x-request-id']), { text, tags: metadata });
    else assertRefusedFor(answer, text, text.length > 512);
  });
  const readAll = async (): Promise<void> => {
    await forEach([...stored], width, async ([id, { text, tags }]) => {
      const found = explained.parse((await stoa.call('GET', `/v1/requests/${id}`)).json);
      assert.deepEqual(
        { ...found, id: found.id },
        { ...found, id, end_user: text, tags },
        JSON.stringify(text),
      );
    });
  };
  await readAll();
  await stoa.stop();
  await stoa.restart();
  await readAll();
  assert.ok(stored.size > strings.length * 0.9, `only ${stored.size} of ${strings.length} were taken`);
  sayAll('as end user and tags');
});

const page = z.looseObject({ data: z.array(z.looseObject({ id: z.string() })) });

test('as filters they find what was stored under them and nothing else', async () => {
  const unique = [...new Set(strings)].filter(
    (text) => text.length >= 1 && text.length <= 512 && isStorable(text),
  );
  await forEach(unique, width, async (text) => {
    const query = `end_user=${encodeURIComponent(text)}&limit=100`;
    await eventually(`request of ${JSON.stringify(text)}`, async () => {
      const answer = await stoa.call('GET', `/v1/requests?${query}`);
      assert.equal(answer.status, 200, `${JSON.stringify(text)}: ${answer.text}`);
      const found = z.looseObject({ data: z.array(explained) }).parse(answer.json).data;
      for (const request of found) assert.equal(request.end_user, text);
      return found.length > 0;
    });
    const usage = await stoa.call('GET', `/v1/usage?group_by=end_user&${query}`);
    assert.equal(usage.status, 200, `${JSON.stringify(text)}: ${usage.text}`);
    assert.equal(page.parse(usage.json).data.length, 1, JSON.stringify(text));
  });
  sayCases('hostile strings as filters', unique.length);
});

const named = z.looseObject({ id: z.string(), name: z.string() });
const key = named.extend({ tags: z.record(z.string(), z.string()), project_id: z.string().nullable() });

test('as names of tenants they come back byte for byte', async () => {
  await forEach(strings, width, async (text) => {
    const answer = await stoa.call('POST', '/control/v1/tenants', { body: { name: text } });
    if (answer.status !== 201) {
      assertRefusedFor(answer, text, text === '' || text.length > 200);
      return;
    }
    const { id } = named.parse(answer.json);
    const found = named.parse((await stoa.call('GET', `/control/v1/tenants/${id}`)).json);
    assert.equal(found.name, text);
  });
  sayAll('as name of a tenant');
});

test('as names, projects and tags of keys they come back byte for byte', async () => {
  const { apiKey } = await stoa.newTenant('hostile keys');
  await forEach(strings, width, async (text) => {
    const tags =
      text.length <= 512
        ? { label: text, ...(text.length >= 1 && text.length <= 64 ? { [text]: 'x' } : {}) }
        : {};
    const project = text.length >= 1 && text.length <= 128 ? text : null;
    const body = { name: text, role: 'viewer', tags, project_id: project };
    const answer = await stoa.call('POST', '/v1/keys', { key: apiKey, body });
    if (answer.status !== 201) {
      assertRefusedFor(answer, text, text === '' || text.length > 200);
      return;
    }
    const { id } = key.parse(answer.json);
    const found = key.parse((await stoa.call('GET', `/v1/keys/${id}`, { key: apiKey })).json);
    assert.deepEqual([found.name, found.tags, found.project_id], [text, tags, project]);
  });
  sayAll('as name, project and tags of a key');
});
