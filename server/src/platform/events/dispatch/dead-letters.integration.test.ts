import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  auditEntry,
  cloudEvent,
  createdApiKey,
  deadLetter,
  deadLetterSummary,
  discardResult,
  eventReplay,
  listOf,
  loggedEvent,
  ownDeadLetter,
  ownDeadLetterSummary,
  redriveResult,
} from '@stoa/contracts';
import { creatingOperatorRoute, operatorRoute, tenantRoute } from '#http';
import { newUuid, silentLogger, systemClock, toTypeId } from '#kernel';
import { type ControlPlane, errorIn, openControlPlane, testedAdapters } from '#testing';
import { createEvents, type Dispatcher, type LoggedEvent } from '../index.ts';
import { anEvent, type Arena, noMetrics, openArena, recorder, until } from './testing/arena.ts';

const letters = listOf(deadLetterSummary.strict()).strict();
const ownLetters = listOf(ownDeadLetterSummary.strict()).strict();

for (const adapter of testedAdapters()) {
  describe(`dead letters on ${adapter}`, () => {
    let arena: Arena;
    let plane: ControlPlane;
    let running: Dispatcher;
    let tenants: { readonly id: string; readonly shown: string; readonly key: string }[];
    /** Keys of events that fail. */
    const failing = new Set<string>();
    const seen: LoggedEvent[] = [];
    const consumer = recorder(
      'letters',
      async (event) => {
        seen.push(event);
        if (failing.has(event.key)) throw new Error(`no luck with ${event.key}`);
      },
      { isReplayable: true },
    );

    before(async () => {
      arena = await openArena(adapter);
      const module = createEvents(
        {
          db: arena.db,
          clock: systemClock,
          logger: silentLogger,
          metrics: noMetrics,
          tracer: arena.telemetry.tracer,
          http: { operatorRoute, tenantRoute, creatingOperatorRoute },
          consumers: [consumer, recorder('unrepeatable')],
          carrier: null,
        },
        { eventDays: 7, isAlone: false },
      );
      plane = await openControlPlane(arena.db, { routes: () => module.routes });
      tenants = [];
      for (let index = 0; index < 2; index++) {
        const id = await arena.newTenant();
        const shown = toTypeId('ten', id);
        const made = await plane.admin('POST', `/control/v1/tenants/${shown}/keys`, {
          body: { name: 'k', role: 'developer' },
        });
        tenants.push({ id, shown, key: createdApiKey.parse(made.body).key });
      }
      running = arena.dispatcher([consumer]);
      await running.start();
    });
    after(async () => {
      await running.stop();
      await plane.close();
      await arena.close();
    });

    function tenant(index: number) {
      const found = tenants[index];
      assert.ok(found);
      return found;
    }

    async function list(query: string) {
      const answer = await plane.admin('GET', `/control/v1/dead-letters?consumer=letters&${query}`);
      assert.equal(answer.status, 200, answer.text);
      return letters.parse(answer.body).data;
    }

    async function post(path: string, body: object) {
      const answer = await plane.admin('POST', `/control/v1/dead-letters/${path}`, { body });
      assert.equal(answer.status, 200, answer.text);
      return answer.body;
    }

    async function deadOf(...keys: readonly string[]) {
      return until(
        async () => (await list('limit=100')).filter(({ event }) => keys.includes(event.key)),
        (found) => found.length === keys.length,
        `dead letters of ${keys.join()}`,
      );
    }

    async function effectsOf(key: string): Promise<readonly bigint[]> {
      const rows = await arena.effects('letters');
      return rows.filter((row) => row.key === key).map((row) => row.keyversion);
    }

    test('an operator finds a dead letter by each filter, and reads the whole event and its cause', async () => {
      const event = anEvent(tenant(0).id, {
        key: 'found',
        data: '{"total":"12.50"}',
        traceparent: `00-${'12'.repeat(16)}-${'34'.repeat(8)}-01`,
      });
      failing.add('found');
      const start = new Date(Date.now() - 60_000).toISOString();
      await arena.tell(event, anEvent(tenant(0).id, { key: 'found', keyversion: 2n }));
      const [letter] = await deadOf('found');
      assert.ok(letter);
      const hits = [
        'type=test.happened.v1',
        'error_code=handler_failed',
        `tenant_id=${tenant(0).shown}`,
        `from=${start}`,
        'state=dead',
      ];
      for (const query of hits) {
        assert.ok(
          (await list(query)).some(({ id }) => id === letter.id),
          query,
        );
      }
      const misses = [
        'type=test.happened.v2',
        'error_code=event_invalid',
        `tenant_id=${tenant(1).shown}`,
        `to=${start}`,
        'state=parked',
      ];
      for (const query of misses) assert.deepEqual(await list(query), [], query);
      const answer = await plane.admin('GET', `/control/v1/dead-letters/${letter.id}`);
      const whole = deadLetter.strict().parse(answer.body);
      assert.deepEqual(whole.event.data, { total: '12.50' });
      assert.equal(whole.event.id, event.eventId);
      assert.equal(whole.event.traceparent, event.traceparent);
      assert.deepEqual([whole.attempts, whole.error?.code], [3, 'handler_failed']);
      assert.equal(whole.error?.message, 'no luck with found');
      assert.match(whole.error?.stack ?? '', /no luck with found/);
      await until(
        async () =>
          deadLetter.parse((await plane.admin('GET', `/control/v1/dead-letters/${letter.id}`)).body),
        ({ followers }) => followers === 1,
        'the follower',
      );
      const held = await until(
        () => list('state=held'),
        (found) => found.some((one) => one.event.key === 'found'),
        'the held one',
      );
      assert.deepEqual(
        held.filter((one) => one.event.key === 'found').map((one) => [one.state, one.held_by]),
        [['held', letter.id]],
      );
      assert.equal(letter.held_by, null);
    });

    test('an id that is no dead letter ends a redrive or discard before anything is done', async () => {
      failing.add('named');
      await arena.tell(anEvent(tenant(0).id, { key: 'named' }));
      const [letter] = await deadOf('named');
      assert.ok(letter);
      const unknown = 'dlt_01jz4x5t2sfkb8m6q0v9c3d7ea';
      for (const [path, body] of [
        ['redrive', { ids: [unknown] }],
        ['redrive', { ids: [letter.id, unknown], dry_run: true }],
        ['redrive', { ids: [letter.id, unknown], force: true }],
        ['discard', { ids: [letter.id, unknown], reason: 'a slip' }],
      ] as const) {
        const answer = await plane.admin('POST', `/control/v1/dead-letters/${path}`, { body });
        assert.equal(answer.status, 404, answer.text);
        const { code, message, param } = errorIn(answer);
        assert.deepEqual([code, param], ['not_found', 'ids']);
        assert.ok(message.includes(unknown) && !message.includes(letter.id), message);
      }
      assert.deepEqual(
        (await deadOf('named')).map(({ state, redrives }) => [state, redrives]),
        [['dead', 0]],
      );
    });

    test('a redrive says beforehand what it would do, hands over again, and what waited follows in order', async () => {
      failing.add('redriven');
      const told = [1n, 2n, 3n].map((keyversion) => anEvent(tenant(0).id, { key: 'redriven', keyversion }));
      await arena.tell(...told);
      const [letter] = await deadOf('redriven');
      assert.ok(letter);
      const dry = redriveResult.parse(await post('redrive', { ids: [letter.id], dry_run: true }));
      assert.deepEqual([dry.matched, dry.redriven, dry.first_ids], [1, 0, [letter.id]]);
      assert.deepEqual(await effectsOf('redriven'), []);
      failing.delete('redriven');
      const done = redriveResult.parse(await post('redrive', { ids: [letter.id] }));
      assert.deepEqual([done.matched, done.redriven], [1, 1]);
      const audited = await plane.admin('GET', '/control/v1/audit?limit=100');
      const reasons = listOf(auditEntry)
        .parse(audited.body)
        .data.map(({ reason }) => reason);
      assert.ok(reasons.includes(`dead-letters.redrive ids=${letter.id} at 50/s`), reasons.join('\n'));
      assert.ok(reasons.includes(`dead-letters.redrive (dry run) ids=${letter.id} at 50/s`));
      await until(
        () => effectsOf('redriven'),
        (found) => found.length === 3,
        'three effects',
      );
      assert.deepEqual(await effectsOf('redriven'), [1n, 2n, 3n]);
    });

    test('a redrive keeps to its rate', async () => {
      const keys = ['rate a', 'rate b', 'rate c'];
      for (const key of keys) failing.add(key);
      await arena.tell(...keys.map((key) => anEvent(tenant(1).id, { key })));
      const found = await deadOf(...keys);
      for (const key of keys) failing.delete(key);
      const before = performance.now();
      const ids = found.map(({ id }) => id);
      const done = redriveResult.parse(await post('redrive', { ids, rate_per_second: 2 }));
      assert.deepEqual([done.redriven, done.takes_seconds], [3, 1]);
      const all = async () => (await Promise.all(keys.map(effectsOf))).flat();
      await until(all, (effects) => effects.length === 3, 'three effects');
      assert.ok(performance.now() - before >= 990, 'the third one came too early');
    });

    test('what fails after three redrives is parked, and only a forced redrive moves it', async () => {
      failing.add('parked');
      await arena.tell(anEvent(tenant(0).id, { key: 'parked' }));
      const [letter] = await deadOf('parked');
      assert.ok(letter);
      const ids = [letter.id];
      for (let turn = 1; turn <= 3; turn++) {
        assert.equal(redriveResult.parse(await post('redrive', { ids })).redriven, 1);
        const state = turn === 3 ? 'parked' : 'dead';
        await until(
          async () => (await deadOf('parked'))[0],
          (now) => now?.redrives === turn && now.state === state,
          `${state} after ${turn}`,
        );
      }
      const refused = redriveResult.parse(await post('redrive', { ids }));
      assert.deepEqual([refused.redriven, refused.parked, refused.matched], [0, 1, 1]);
      failing.delete('parked');
      assert.equal(redriveResult.parse(await post('redrive', { ids, force: true })).redriven, 1);
      await until(
        () => effectsOf('parked'),
        (found) => found.length === 1,
        'its effect',
      );
    });

    test('a discarded letter never reaches its consumer, and what waited for it goes on', async () => {
      failing.add('discarded');
      const told = [1n, 2n].map((keyversion) => anEvent(tenant(0).id, { key: 'discarded', keyversion }));
      await arena.tell(...told);
      const [letter] = await deadOf('discarded');
      assert.ok(letter);
      failing.delete('discarded');
      const choice = { ids: [letter.id], reason: 'withdrawn' };
      const dry = discardResult.parse(await post('discard', { ...choice, dry_run: true }));
      assert.deepEqual([dry.matched, dry.discarded], [1, 0]);
      const done = discardResult.parse(await post('discard', choice));
      assert.equal(done.discarded, 1);
      const audited = await plane.admin('GET', '/control/v1/audit?limit=100');
      const reasons = listOf(auditEntry)
        .parse(audited.body)
        .data.map(({ reason }) => reason);
      assert.ok(reasons.includes(`dead-letters.discard ids=${letter.id}: withdrawn`));
      const path = `/control/v1/audit?action=dead-letters.discard&tenant_id=${tenant(0).shown}`;
      const ofTenant = listOf(auditEntry).parse((await plane.admin('GET', path)).body).data;
      assert.deepEqual(
        ofTenant.map(({ resource, before, after }) => [resource?.id, before, after]),
        [[letter.id, null, { moved: 1 }]],
      );
      await until(
        () => effectsOf('discarded'),
        (found) => found.length === 1,
        "the follower's effect",
      );
      assert.deepEqual(await effectsOf('discarded'), [2n]);
      assert.equal((await plane.admin('GET', `/control/v1/dead-letters/${letter.id}`)).status, 404);
    });

    test('a tenant sees its own dead letters without what is ours, and never those of another', async () => {
      failing.add('own a').add('own b');
      await arena.tell(anEvent(tenant(0).id, { key: 'own a' }), anEvent(tenant(1).id, { key: 'own b' }));
      const found = await deadOf('own a', 'own b');
      const idOf = (key: string) => found.find(({ event }) => event.key === key)?.id ?? '';
      const { key } = tenant(1);
      const listed = await plane.open('GET', '/v1/dead-letters?limit=100', { key });
      assert.equal(listed.status, 200, listed.text);
      const own = ownLetters.parse(listed.body).data;
      assert.deepEqual(own.map(({ id }) => id).includes(idOf('own b')), true);
      assert.ok(own.every(({ event }) => event.key !== 'own a'));
      const one = await plane.open('GET', `/v1/dead-letters/${idOf('own b')}`, { key });
      const letter = ownDeadLetter.strict().parse(one.body);
      assert.equal(letter.error?.message, 'Handling the event failed on our side.');
      assert.doesNotMatch(one.text, /no luck|\.ts:/);
      const other = await plane.open('GET', `/v1/dead-letters/${idOf('own a')}`, { key });
      assert.deepEqual([other.status, errorIn(other).code], [404, 'not_found']);
    });

    test('what is no filter, no id or no choice is refused', async () => {
      for (const query of [
        'limit=0',
        'after=x',
        'state=alive',
        'tenant_id=x',
        'from=yesterday',
        'type=%00',
      ]) {
        const answer = await plane.admin('GET', `/control/v1/dead-letters?${query}`);
        assert.equal(answer.status, 400, query);
      }
      const bodies: readonly [string, object][] = [
        ['redrive', {}],
        ['redrive', { dry_run: true }],
        ['redrive', { consumer: 'x', rate_per_second: 0 }],
        ['redrive', { ids: [] }],
        ['redrive', { consumer: 'x', surprise: 1 }],
        ['discard', { consumer: 'x' }],
        ['discard', { reason: 'none chosen' }],
      ];
      for (const [path, body] of bodies) {
        const answer = await plane.admin('POST', `/control/v1/dead-letters/${path}`, { body });
        assert.deepEqual(
          [answer.status, errorIn(answer).code],
          [400, 'invalid_request'],
          JSON.stringify(body),
        );
      }
    });

    test("a replay hands a tenant's events to one consumer again from a time on, in order, and nobody else's", async () => {
      const told = [1n, 2n, 3n].map((keyversion) => anEvent(tenant(0).id, { key: 'again', keyversion }));
      await arena.tell(...told, anEvent(tenant(1).id, { key: 'not again' }));
      await until(
        () => effectsOf('again'),
        (found) => found.length === 3,
        'the effects',
      );
      await until(
        () => effectsOf('not again'),
        (found) => found.length === 1,
        "the other's effect",
      );
      const from = new Date(Date.now() - 3_600_000).toISOString();
      const asked = await plane.admin('POST', '/control/v1/event-replays', {
        body: { tenant_id: tenant(0).shown, consumer: 'letters', from },
      });
      assert.equal(asked.status, 202, asked.text);
      const { location } = asked.headers;
      assert.ok(typeof location === 'string');
      const entries = await plane.admin(
        'GET',
        `/control/v1/audit?action=event-replays.create&tenant_id=${tenant(0).shown}`,
      );
      assert.deepEqual(
        listOf(auditEntry)
          .parse(entries.body)
          .data.map(({ resource }) => resource?.id),
        [location.split('/').at(-1)],
      );
      running.wake();
      const done = await until(
        async () => eventReplay.strict().parse((await plane.admin('GET', location)).body),
        ({ state }) => state === 'done',
        'the end of the replay',
      );
      assert.ok(done.handled >= 3);
      assert.deepEqual(await effectsOf('again'), [1n, 2n, 3n, 1n, 2n, 3n]);
      assert.deepEqual(await effectsOf('not again'), [1n]);
      await arena.tell(anEvent(tenant(0).id, { key: 'again', keyversion: 4n }));
      await until(
        () => effectsOf('again'),
        (found) => found.length === 7,
        'what is told afterwards',
      );
      const none = { tenant_id: tenant(0).shown, consumer: 'nobody', from };
      assert.equal((await plane.admin('POST', '/control/v1/event-replays', { body: none })).status, 404);
      const unfit = { ...none, consumer: 'unrepeatable' };
      assert.equal((await plane.admin('POST', '/control/v1/event-replays', { body: unfit })).status, 409);
    });

    test("a tenant reads its own event in both forms of CloudEvents, and nobody else's", async () => {
      const data = '{ "amount": 9007199254740993, "who": "é" }';
      const event = anEvent(tenant(0).id, { key: 'told ö', data, causation: newUuid() });
      await arena.tell(event);
      const id = toTypeId('evt', event.eventId);
      const { key } = tenant(0);
      const structured = await plane.open('GET', `/v1/events/${id}`, { key });
      assert.equal(structured.status, 200, structured.text);
      assert.equal(structured.headers['content-type'], 'application/cloudevents+json; charset=utf-8');
      assert.ok(structured.text.endsWith(`"data":${data}}`), 'byte for byte');
      const whole = cloudEvent.strict().parse(JSON.parse(structured.text));
      assert.deepEqual(
        [whole.id, whole.tenantid, whole.partitionkey, whole.keyversion, whole.type],
        [id, tenant(0).shown, 'told ö', '1', 'test.happened.v1'],
      );
      const binary = await plane.open('GET', `/v1/events/${id}?form=binary`, { key });
      assert.equal(binary.status, 200, binary.text);
      assert.equal(binary.headers['content-type'], 'application/json');
      assert.equal(binary.text, data);
      assert.deepEqual(
        [binary.headers['ce-id'], binary.headers['ce-specversion'], binary.headers['ce-partitionkey']],
        [id, '1.0', 'told%20%C3%B6'],
      );
      const other = await plane.open('GET', `/v1/events/${id}`, { key: tenant(1).key });
      assert.deepEqual([other.status, errorIn(other).code], [404, 'not_found']);
      assert.equal((await plane.open('GET', `/v1/events/${id}?form=xml`, { key })).status, 400);
      assert.equal((await plane.open('GET', '/v1/events/evt_x', { key })).status, 400);
    });

    test('the log is followed live, filtered by type and tenant', async () => {
      const page = listOf(loggedEvent.strict()).strict();
      const begun = page.parse((await plane.admin('GET', '/control/v1/events')).body);
      assert.deepEqual([begun.data, begun.has_more], [[], false]);
      const query = `after=${begun.last_id ?? ''}&type=test.happened&tenant_id=${tenant(1).shown}&wait_seconds=20`;
      const waiting = plane.admin('GET', `/control/v1/events?${query}`);
      const event = anEvent(tenant(1).id, { key: 'followed', data: '{"a":1}' });
      await arena.tell(anEvent(tenant(0).id), anEvent(tenant(1).id, { type: 'test.other.v1' }), event);
      const found = page.parse((await waiting).body);
      assert.deepEqual(
        found.data.map(({ id, key, data }) => [id, key, data]),
        [[event.eventId, 'followed', { a: 1 }]],
      );
      const rest = await plane.admin('GET', `/control/v1/events?after=${found.last_id ?? ''}`);
      assert.deepEqual(page.parse(rest.body).data, []);
      assert.equal((await plane.admin('GET', '/control/v1/events?after=x')).status, 400);
      const ahead = await plane.admin('GET', `/control/v1/events?after=${2n ** 40n}.1`);
      assert.deepEqual([ahead.status, errorIn(ahead).param], [400, 'after']);
    });
  });
}
