/** The `stoa` command against a whole Stoa, as people and programs run it: in a process of its own. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { explainedRequest, listTenants, price, usageReport } from '@stoa/contracts';
import { createOperatorClient } from '@stoa/sdk';
import { z } from 'zod';
import { eventually, startStoa, type StoaProcess } from './stoa-process.ts';

const root = path.resolve(import.meta.dirname, '../..');
const program = path.join(root, 'cli/src/main.ts');
const launcher = path.join(root, 'cli/bin/stoa.mjs');

const script = `
seed: 7
models: [{ id: scripted-chat }]
rules:
  - when: { text: slow }
    reply: [one${', " more"'.repeat(60)}]
    latency: { between_chunks: { distribution: fixed, ms: 500 } }
  - when: { text: flaky }
    times: 1
    error: { status: 503, body: { error: { message: upstream is restarting } } }
  - when: { text: cut }
    reply: [one, " two", " three"]
    cut: { after_chunks: 2 }
  - reply: "You wrote: {{last_user_message}}"
`;

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly errors: string;
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  out(): string;
}

interface Options {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** What runs it; default the program itself. */
  readonly command?: readonly string[];
}

let stoa: StoaProcess;
let scratch: string;

function start(words: readonly string[], { env = {}, input, command = [program] }: Options = {}): Running {
  const clean = Object.entries(process.env).filter(
    ([name]) => !/^(STOA_|OTEL_|NO_COLOR|FORCE_COLOR)/.test(name),
  );
  const child = spawn(process.execPath, [...command, ...words], {
    cwd: scratch,
    env: { ...Object.fromEntries(clean), STOA_DATA_DIR: stoa.dataDirectory, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let out = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    out += part;
  });
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    errors += part;
  });
  child.stdin.end(input ?? '');
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code) => resolve({ code, out, errors }));
  });
  return { child, ended, out: () => out };
}

async function run(words: readonly string[], options?: Options): Promise<Ended> {
  return start(words, options).ended;
}

/** Runs a command that has to succeed and returns its standard output. */
async function output(...words: string[]): Promise<string> {
  const { code, out, errors } = await run(words);
  assert.equal(code, 0, `stoa ${words.join(' ')}: ${errors}`);
  assert.ok(!out.includes('\u001b'), 'no colour without a terminal');
  return out;
}

async function json<Output>(schema: z.ZodType<Output>, ...words: string[]): Promise<Output> {
  return schema.parse(JSON.parse(await output(...words, '--json')));
}

const failureShape = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    advice: z.string().nullable(),
    status: z.number().nullable(),
    param: z.string().nullable(),
    request_id: z.string().nullable(),
  }),
});

/** The one JSON line of a command that has to fail with this exit code. */
async function failure(code: number, words: readonly string[], options?: Options) {
  const ended = await run([...words, '--json'], options);
  assert.equal(ended.code, code, ended.errors);
  assert.equal(ended.out, '');
  assert.match(ended.errors, /^[^\n]+\n$/);
  return failureShape.parse(JSON.parse(ended.errors)).error;
}

const listed = z.object({ data: z.array(z.looseObject({ id: z.string() })) });
const identified = z.looseObject({ id: z.string() });

before(async () => {
  scratch = mkdtempSync(path.join(tmpdir(), 'stoa-cli-'));
  writeFileSync(path.join(scratch, 'script.yaml'), script);
  stoa = await startStoa({ env: { STOA_SCRIPTED_FILE: path.join(scratch, 'script.yaml') } });
});
after(async () => {
  await stoa.dispose();
  rmSync(scratch, { recursive: true, force: true });
});

describe('operating', () => {
  test('a tenant is created, shown, suspended, resumed, deleted and listed', async () => {
    const { id } = await json(identified, 'tenants', 'create', 'Größe 日本');
    const { tenants } = createOperatorClient(stoa.credentials);
    const stateOf = async (): Promise<string> => (await tenants.read(id)).state;
    assert.equal(await stateOf(), 'active');
    assert.match(await output('tenants', 'show', id), /name +Größe 日本\nstate +active/);
    assert.match(await output('tenants', 'suspend', id, '--reason', 'Unpaid'), /state +suspended\n/);
    assert.equal(await stateOf(), 'suspended');
    const suspended = await json(listed, 'tenants', 'list', '--state', 'suspended');
    assert.ok(suspended.data.some((one) => one.id === id));
    assert.match(await output('tenants', 'resume', id), /state +active/);
    assert.equal(await stateOf(), 'active');
    assert.match(await output('tenants', 'delete', id), /purged after/);
    assert.equal(await stateOf(), 'deleted');
    assert.match(await output('tenants', 'list', '--all'), new RegExp(`${id}  Größe 日本  deleted`));
  });

  test('lists go on where they are told to, in the form of the API', async () => {
    for (const name of ['One', 'Two', 'Three']) await output('tenants', 'create', name);
    const answer = listTenants.responses[200]?.schema;
    assert.ok(answer);
    const first = await json(answer, 'tenants', 'list', '--limit', '2');
    assert.deepEqual([first.data.length, first.has_more, first.last_id], [2, true, first.data[1]?.id]);
    const next = await json(answer, 'tenants', 'list', '--limit', '1', '--after', first.last_id ?? '');
    const all = await json(answer, 'tenants', 'list', '--all');
    assert.deepEqual(
      all.data.slice(0, 3).map(({ id }) => id),
      [...first.data, ...next.data].map(({ id }) => id),
    );
    assert.equal(all.has_more, false);
  });

  test("a tenant's key is made by the operator alone on standard output, works, and is revoked", async () => {
    const tenant = await json(identified, 'tenants', 'create', 'Keys');
    const made = await run(['keys', 'create', 'Back end', '--role', 'admin', '--tenant', tenant.id]);
    const key = made.out.trim();
    assert.match(key, /^stoa_sk_[0-9A-Za-z]{12}_[0-9A-Za-z]{36}$/);
    assert.match(made.errors, /shown this once/);
    const own = { env: { STOA_KEY: key } };
    const second = await run(
      ['keys', 'create', 'Viewer', '--role', 'viewer', '--project', 'p1', '--json'],
      own,
    );
    const viewer = identified.parse(JSON.parse(second.out));
    assert.match((await run(['keys', 'list'], own)).out, new RegExp(`${viewer.id}  Viewer .*active .*p1`));
    assert.equal((await run(['keys', 'revoke', viewer.id], own)).code, 0);
    const keys = await output('keys', 'list', '--tenant', tenant.id);
    assert.match(keys, new RegExp(`${viewer.id} .*revoked`));
    await output('keys', 'revoke', key.slice(8, 20), '--tenant', tenant.id);
    const refused = await eventually('refusal', async () => {
      const ended = await run(['keys', 'list', '--json'], own);
      return ended.code === 1 && ended.errors;
    });
    assert.ok(!refused.includes(key), 'the key is in no message');
    assert.match(refused, /key_revoked.*from STOA_KEY/);
  });

  test("a key's secret is rotated, its networks and its tenant's policy are set, unused keys are listed", async () => {
    const tenant = await json(identified, 'tenants', 'create', 'Rotating');
    const of = ['--tenant', tenant.id];
    const key = (await output('keys', 'create', 'admin', '--role', 'admin', ...of)).trim();
    const own = { env: { STOA_KEY: key } };
    const rotated = await run(['keys', 'rotate', key.slice(8, 20), '--overlap', '0'], own);
    assert.equal(rotated.code, 0, rotated.errors);
    const now = { env: { STOA_KEY: rotated.out.trim() } };
    assert.notEqual(rotated.out.trim(), key);
    assert.match(rotated.errors, /shown this once.*The secret before is refused/);
    assert.equal((await run(['keys', 'list'], now)).code, 0);
    assert.match((await run(['keys', 'list'], own)).errors, /replaced by a newer one/);
    const operators = await run(['keys', 'rotate', key.slice(8, 20), ...of]);
    assert.match(operators.errors, /The secret before works until/);
    const away = await run(['keys', 'create', 'away', '--ip', '203.0.113.0/24', '2001:db8::/32', ...of]);
    const elsewhere = await run(['models', 'list'], { env: { STOA_KEY: away.out.trim() } });
    assert.match(elsewhere.errors, /may not be used from 127\.0\.0\.1/);
    assert.match((await run(['keys', 'create', 'x', '--ip', '10.1.2.3/8', ...of])).errors, /10\.0\.0\.0\/8/);
    assert.match(await output('keys', 'policy', 'show', ...of), /any time/);
    const set = await run(['keys', 'policy', 'set', '--max-days', '30', '--require-expiry', ...of]);
    assert.match(set.out, /30 days[^]*must have an expiry/);
    assert.match(set.errors, /2 live longer/);
    assert.match(await output('keys', 'list', '--beyond-policy', ...of), /away/);
    assert.match((await run(['keys', 'create', 'x', ...of])).errors, /30 days/);
    assert.match((await run(['keys', 'list', '--unused', '90', ...of])).errors, /There are none/);
    assert.equal((await run(['keys', 'rotate', key.slice(8, 20), '--overlap', 'x'], now)).code, 2);
  });

  test("rate limits are shown and set, a tenant's as the operator, a key's own as its tenant", async () => {
    const tenant = await json(identified, 'tenants', 'create', 'Limited');
    const of = ['--tenant', tenant.id];
    const keyOf = (await output('keys', 'create', 'limited', '--role', 'admin', ...of)).trim();
    assert.match(await output('limits', 'show', ...of), /defaults hold/);
    const rules = ['--rule', 'requests:6000/60,burst=1000', '--rule', 'tokens:200000/60,class=chat,per=key'];
    const set = await run(['limits', 'set', ...of, ...rules]);
    assert.equal(set.code, 0, set.errors);
    assert.match(set.out, /requests +6,?000 +60 +1,?000 +any +tenant/);
    assert.match(set.out, /tokens +200,?000 +60 +200,?000 +chat +key/);
    const own = { env: { STOA_KEY: keyOf } };
    assert.equal((await run(['limits', 'show'], own)).out, set.out);
    const other = await run(['keys', 'create', 'other', ...of]);
    const otherId = other.out.trim().slice(8, 20);
    const ofKey = await run(['limits', 'set', otherId, '--rule', 'requests:60/60,class=chat'], own);
    assert.match(ofKey.out, /requests +60 +60 +60 +chat +this key/, ofKey.errors);
    assert.equal((await run(['limits', 'show', otherId], own)).out, ofKey.out);
    assert.match((await run(['limits', 'set', otherId, '--none'], own)).out, /No limits/);
    const wrong = [
      [...of],
      [...of, '--none', '--defaults'],
      ['--none'],
      [otherId, '--none', ...of],
      [otherId, '--defaults'],
      [otherId, '--rule', 'requests:1/1,per=key'],
      ...['requests', 'requests:0/60', 'money:1/1', 'requests:1/1,class=x', 'requests:1/1,x'].map((rule) => [
        ...of,
        '--rule',
        rule,
      ]),
    ];
    for (const words of wrong)
      assert.equal((await run(['limits', 'set', ...words])).code, 2, JSON.stringify(words));
    assert.match(await output('limits', 'set', ...of, '--defaults'), /defaults hold/);
  });

  test('providers are listed and added, with the credential from the environment only', async () => {
    assert.match(await output('providers', 'list'), /extractive +extractive +built-in/);
    const words = ['providers', 'create', 'far', '--base-url', 'http://127.0.0.1:9/v1', '--json'];
    const ended = await run([...words, '--credential-env', 'MY_KEY'], {
      env: { MY_KEY: 'sk-0123456789abcdef' },
    });
    assert.equal(ended.code, 0, ended.errors);
    const far = z
      .object({ has_credential: z.boolean(), credential_last_four: z.string() })
      .parse(JSON.parse(ended.out));
    assert.deepEqual(far, { has_credential: true, credential_last_four: 'cdef' });
    assert.equal(
      (await failure(2, ['providers', 'create', 'x', '--credential-env', 'UNSET_KEY'])).code,
      'usage',
    );
    assert.equal((await failure(1, words.slice(0, -1))).code, 'already_exists');
  });

  test('a past is replayed into a consumer until it is done, and an id that is no dead letter is a failure', async () => {
    const tenant = await json(identified, 'tenants', 'create', 'replayed');
    const of = ['--tenant', tenant.id, '--from', '2026-01-01T00:00:00Z'];
    const words = ['events', 'replay', ...of, '--consumer', 'webhooks.fan-out'];
    const done = await json(identified, ...words, '--wait');
    assert.equal(done['state'], 'done');
    assert.match(await output('events', 'replay-status', done.id), /state +done\n[^]*handled +\d+/);
    assert.equal((await failure(1, ['events', 'replay', ...of, '--consumer', 'nobody'])).code, 'not_found');
    const letter = 'dlt_01jz4x5t2sfkb8m6q0v9c3d7ea';
    assert.equal((await failure(1, ['dead-letters', 'redrive', letter])).code, 'not_found');
    assert.match(await output('dead-letters', 'redrive', '--consumer', 'nobody'), /^0 of 0 /);
  });

  test('the audit is listed and exported, as the tenant and as the operator', async () => {
    const tenant = await json(identified, 'tenants', 'create', 'audited');
    const actions = async (...words: string[]) => {
      const page = await json(
        z.object({ data: z.array(z.looseObject({ action: z.string() })) }),
        'audit',
        ...words,
      );
      return page.data.map(({ action }) => action);
    };
    assert.deepEqual(await actions('list', '--tenant', tenant.id), ['tenants.create']);
    const own = (await output('keys', 'create', 'audited', '--role', 'viewer')).trim().slice(8, 20);
    assert.deepEqual(await actions('list', '--type', 'api_key', '--resource', own), ['keys.create']);
    assert.match(
      await output('audit', 'list', '--limit', '1', '--action', 'keys.create'),
      /keys\.create +\S+ +key /,
    );
    const lines = (await output('audit', 'export', '--operator', '--tenant', tenant.id)).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => identified.parse(JSON.parse(line))['action']),
      ['tenants.create'],
    );
    assert.equal((await failure(1, ['audit', 'list', '--resource', 'x'])).code, 'invalid_request');
  });

  test('prices are found', async () => {
    assert.match(
      await output('prices', 'list', '--model', 'gpt-4o', '--provider', 'openai'),
      /gpt-4o .*openai/,
    );
    const page = await json(z.object({ data: z.array(price) }), 'prices', 'list', '--limit', '3');
    assert.equal(page.data.length, 3);
  });
});

describe('using it as a tenant', () => {
  test('a chat streams to standard output, and names the target and the request on standard error', async () => {
    const { code, out, errors } = await run([
      'chat',
      'hello there',
      '--system',
      'Be brief',
      '--max-tokens',
      '50',
    ]);
    assert.deepEqual([code, out], [0, 'You wrote: hello there\n']);
    assert.match(errors, /^scripted-chat · req_[0-9a-z]{26}\n$/);
  });

  test('the text of a chat may come from standard input, byte for byte', async () => {
    const { out } = await run(['chat', '--model', 'scripted-chat'], { input: 'Grüße\n🌍' });
    assert.equal(out, 'You wrote: Grüße\n🌍\n');
    assert.equal((await failure(2, ['chat'], { input: ' \n' })).code, 'usage');
  });

  test('--json gives the completion as the API does', async () => {
    const { code, out, errors } = await run(['chat', 'hello', '--json']);
    assert.equal(code, 0);
    const completion = z.object({ object: z.literal('chat.completion'), choices: z.array(z.unknown()) });
    assert.ok(completion.parse(JSON.parse(out)));
    assert.match(errors, /^\{"request_id":"req_\w+","target":"scripted-chat"\}\n$/);
  });

  test('the first words are shown before the last are there; Ctrl-C cancels the call and ends with 130', async () => {
    const before = Date.now();
    const chat = start(['chat', 'slow']);
    await eventually('first words', () => Promise.resolve(chat.out().includes('one')));
    chat.child.kill('SIGINT');
    chat.child.kill('SIGINT');
    const { code, out, errors } = await chat.ended;
    assert.equal(code, 130);
    assert.match(out, /^one( more)*\n$/);
    assert.match(errors, /Cancelled/);
    assert.ok(Date.now() - before < 15_000, 'it did not wait for the answer');
    const cancelled = await eventually('record', async () => {
      const page = await json(listed, 'requests', 'list', '--outcome', 'client_cancelled');
      return page.data[0];
    });
    assert.equal(cancelled['stream'], true);
  });

  test('a stream that breaks ends with 1 and says so', async () => {
    const { code, out, errors } = await run(['chat', 'cut it']);
    assert.deepEqual([code, out], [1, 'one\n']);
    assert.match(errors, /^stoa: .+\nreq_\w+\n$/);
  });

  test('a request is explained: decision, each attempt with its error, tokens, cost, trace', async () => {
    const { errors } = await run(['chat', 'flaky']);
    const id = /req_\w+/.exec(errors)?.[0] ?? '';
    const request = await json(explainedRequest, 'requests', 'show', id);
    assert.equal(request.id, id);
    const text = await output('requests', 'show', id);
    assert.match(text, new RegExp(`^${id}  completed\n`));
    assert.match(text, /asked +auto +\(chat\.completions, streamed\)/);
    assert.match(text, /decided +scripted-chat +\(first_healthy, probability 1\)/);
    assert.match(text, /tokens +\d+ in, \d+ out/);
    assert.match(text, /cost +unknown: the target has no price/);
    assert.match(text, new RegExp(`trace +${request.trace_id}`));
    assert.match(text, /1 +scripted-chat +scripted .* 503 +provider_error: /);
    assert.match(text, /2 +scripted-chat +scripted .* 200 +ok/);
    assert.equal(await output('requests', 'show'), text, 'without an id it is the newest');
    assert.match(await output('requests', 'list', '--limit', '1'), new RegExp(id));
  });

  test('models and usage are listed', async () => {
    assert.match(await output('models', 'list'), /^ID .*\n(.*\n)*scripted-chat +chat /);
    const models = await json(listed, 'models', 'list');
    assert.ok(models.data.some(({ id }) => id === 'auto'));
    assert.match(await output('usage', '--by', 'model'), /^MODEL +REQUESTS .*\n(.*\n)*scripted-chat +\d/);
    const usage = await json(usageReport, 'usage', '--by', 'day,model');
    assert.ok(usage.totals.requests > 0);
  });
});

describe('when something is wrong', () => {
  test('a server that is not there: how to start it', async () => {
    const env = { STOA_URL: 'http://127.0.0.1:1024', STOA_KEY: 'stoa_sk_x' };
    const error = await failure(1, ['models', 'list'], { env });
    assert.equal(error.code, 'connection_failed');
    assert.match(error.advice ?? '', /npm start.*STOA_URL/);
  });

  test('a wrong key: where it came from, and never the key', async () => {
    const key = stoa.credentials.demo.apiKey.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a'));
    const { code, errors } = await run(['models', 'list', '--key', key]);
    assert.equal(code, 1);
    assert.match(errors, /from --key/);
    assert.ok(!errors.includes(key.slice(-10)), errors);
    const error = await failure(1, ['tenants', 'list'], { env: { STOA_KEY: 'stoa_op_wrong' } });
    assert.deepEqual([error.code, error.status], ['invalid_api_key', 401]);
    assert.match(error.advice ?? '', /operator's from STOA_KEY/);
  });

  test('nothing known of a server: 78, and what to set', async () => {
    const error = await failure(78, ['models', 'list'], {
      env: { STOA_DATA_DIR: path.join(scratch, 'none') },
    });
    assert.match(error.advice ?? '', /npm start/);
  });

  test('an unknown word: 2, and the nearest one', async () => {
    const wrong: [words: string[], expected: RegExp][] = [
      [['tenant', 'list'], /Unknown command 'tenant'\. Did you mean tenants\?/],
      [['tenants', 'lst'], /Did you mean list\?/],
      [['chat', '--modle', 'x', 'hi'], /Did you mean --model\?/],
      [['tenants', 'list', '--limit', '0'], /whole number/],
      [['tenants', 'create'], /missing required argument/i],
      [['keys', 'create', 'x', '--role', 'king'], /admin, developer, viewer/],
      [['tenants'], /not complete[^]*create \[options\]/],
      [['--json', 'tenants', 'list'], /Options come after the command/],
    ];
    for (const [words, expected] of wrong) {
      const { code, out, errors } = await run(words);
      assert.deepEqual([code, out], [2, ''], words.join(' '));
      assert.match(errors, expected);
    }
    assert.equal((await failure(2, ['tenants', 'lst'])).code, 'usage');
  });

  test("what the server says of a thing that isn't there reaches the caller with its code", async () => {
    const error = await failure(1, ['requests', 'show', 'req_01jz4x5t2sfkb8m6q0v9c3d7ea']);
    assert.deepEqual([error.code, error.status], ['not_found', 404]);
    assert.match(error.request_id ?? '', /^req_/);
    const model = await run(['chat', 'hi', '--model', 'nope']);
    assert.match(model.errors, /nope[^]*stoa models list/);
  });

  test('a reader that leaves early is no failure', async () => {
    const child = start(['prices', 'list', '--all', '--json']);
    child.child.stdout?.destroy();
    assert.equal((await child.ended).errors, '');
  });
});

describe('help', () => {
  test('of every command ends in an example, and names --json', async () => {
    const page = await output('reference');
    const sections = page.split(/^## /m).slice(1);
    assert.ok(sections.length >= 24, String(sections.length));
    for (const section of sections) {
      assert.match(section, /Examples?:\n {2}\$ .*stoa /, section);
      assert.match(section, /--json/, section);
    }
    assert.match(await output('keys', 'create', '--help'), /--role <role>/);
    assert.match(await output('--version'), /^\d+\.\d+\.\d+\n$/);
  });
});

describe("the server's own commands", () => {
  test('settings are printed and checked, with the exit code of the server', async () => {
    assert.match(await output('config', 'print', '--origins'), /STOA_DATA_DIR=.*# environment/);
    assert.equal((await json(z.looseObject({}), 'config', 'print'))['STOA_PROFILE'], 'development');
    assert.match(await output('config', 'check'), /valid/);
    const bad = { env: { STOA_LISTEN: 'nowhere' } };
    assert.equal((await run(['config', 'check'], bad)).code, 78);
    const error = await failure(78, ['config', 'check'], bad);
    assert.equal(error.code, 'invalid_configuration');
    assert.match(error.message, /^The configuration .*STOA_LISTEN/s);
  });

  test('a whole server runs under it, and SIGTERM drains it', async () => {
    const data = path.join(scratch, 'second');
    mkdirSync(data);
    const env = { STOA_DATA_DIR: data, STOA_LISTEN: '127.0.0.1:0', STOA_ADMIN_LISTEN: '127.0.0.1:0' };
    const migrated = await run(['db', 'migrate', '--json'], { env });
    assert.equal(migrated.code, 0, migrated.errors);
    assert.ok(
      z.object({ applied: z.array(z.object({ name: z.string() })).min(1) }).parse(JSON.parse(migrated.out)),
    );
    const made = await run(['db', 'operator-key', '--name', 'Ada', '--json'], { env });
    const key = z.object({ operator_key: z.string() }).parse(JSON.parse(made.out)).operator_key;

    const reading = await run(['db', 'operator-key', '--role', 'operator-readonly'], { env });
    assert.equal(reading.code, 0, reading.errors);
    assert.equal((await run(['db', 'operator-key', '--role', 'admin'], { env })).code, 2);

    const server = start(['up', '--json'], { env });
    await eventually('ready server', () => Promise.resolve(server.out().includes('"ready"')), 60_000);
    const listedTenants = await run(['tenants', 'list', '--json'], { env: { ...env, STOA_KEY: key } });
    assert.equal(listedTenants.code, 0, listedTenants.errors);
    const readonly = { env: { ...env, STOA_KEY: reading.out.split('\n')[0] ?? '' } };
    assert.equal((await run(['tenants', 'list'], readonly)).code, 0);
    assert.match((await run(['tenants', 'create', 'Refused'], readonly)).errors, /control:write/);
    server.child.kill('SIGTERM');
    const { code, out } = await server.ended;
    assert.equal(code, 0);
    for (const line of out.trim().split('\n')) assert.ok(z.looseObject({}).parse(JSON.parse(line)));
    assert.match(out, /"draining"[^]*"stopped"/);
  });
});

describe('on a shell with an old Node', () => {
  const pretence = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '20.20.2' } })`;
  const old = { command: ['--import', `data:text/javascript,${encodeURIComponent(pretence)}`, launcher] };
  const hasOwnNode = [
    'node_modules/.bin/node',
    `node_modules/node-${process.platform}-${process.arch}/bin/node`,
  ].some((file) => existsSync(path.join(root, file)));

  test("the project's own Node runs the command, or it is said which one is needed", async () => {
    const ended = await run(['config', 'check'], old);
    if (hasOwnNode) assert.deepEqual([ended.code, ended.out], [0, 'The configuration is valid.\n']);
    else {
      assert.equal(ended.code, 78);
      assert.match(ended.errors, /Node 24\.\d+\.\d+ or newer is needed; this is 20\.20\.2/);
    }
    assert.equal((await run(['tenants', 'lst'], old)).code, hasOwnNode ? 2 : 78);
    assert.equal((await run(['--version'], { command: [launcher] })).code, 0, 'and a new one runs it itself');
  });

  test('signals reach the command', {
    skip: hasOwnNode ? false : 'there is no Node of the project',
  }, async () => {
    const chat = start(['chat', 'slow'], old);
    await eventually('first words', () => Promise.resolve(chat.out().includes('one')));
    chat.child.kill('SIGINT');
    assert.equal((await chat.ended).code, 130);
  });
});
