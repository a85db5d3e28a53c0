import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoadShedding, type Priority, priorityOf } from './shedding.ts';

/** An event loop that does what the test says. */
class FakeLoop {
  nowMs = 0;
  activeMs = 0;
  iterations = 0;
  isSampled = false;
  #sample: () => void = () => undefined;
  #ended: (() => void)[] = [];

  readonly ports = {
    readLoop: () => ({ activeMs: this.activeMs, iterations: this.iterations }),
    now: () => this.nowMs,
    afterPhase: (work: () => void) => void this.#ended.push(work),
    each: (_ms: number, work: () => void) => {
      this.#sample = work;
      this.isSampled = true;
      return () => {
        this.isSampled = false;
      };
    },
  };

  /** One iteration of so many milliseconds in which these come one after the other; how many were refused. */
  iterate(load: LoadShedding, ms: number, count: number, priority: Priority = 'interactive'): number {
    let refused = 0;
    for (let index = 0; index < count; index++) {
      if (load.refuses(priority)) refused += 1;
      this.nowMs += ms / count;
    }
    if (count === 0) this.nowMs += ms;
    this.activeMs += ms;
    this.iterations += 1;
    for (const work of this.#ended.splice(0)) work();
    if (this.isSampled) this.#sample();
    return refused;
  }
}

function refusedIn(
  loop: FakeLoop,
  load: LoadShedding,
  iterations: number,
  ms: number,
  count: number,
): number {
  let refused = 0;
  for (let index = 0; index < iterations; index++) refused += loop.iterate(load, ms, count);
  return refused;
}

test('a loop that is late now and then refuses nothing', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(25, loop.ports);
  for (let round = 0; round < 50; round++) {
    assert.equal(refusedIn(loop, load, 5, 300, 500), 0, 'five long iterations');
    assert.equal(refusedIn(loop, load, 1, 5, 500), 0, 'and a short one');
  }
});

test('lasting delay refuses what comes late in a phase, and the first of it never', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(25, loop.ports);
  assert.equal(refusedIn(loop, load, 6, 60, 500), 0);
  assert.ok(load.isOverloaded);
  const refused = refusedIn(loop, load, 10, 60, 500);
  assert.ok(refused > 2_000 && refused < 10 * (500 - 64) + 1, String(refused));
  assert.equal(refusedIn(loop, load, 10, 60, 64), 0, '64 at once are never refused');
});

test('batch goes first, then agent steps, then what is interactive', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(30, loop.ports);
  const refusedOf = (priority: Priority, ms: number): boolean => loop.iterate(load, ms, 500, priority) > 0;
  for (const [ms, expected] of [
    [9, [false, false, false]],
    [15, [true, false, false]],
    [25, [true, true, false]],
    [40, [true, true, true]],
  ] as const) {
    refusedIn(loop, load, 6, ms, 500);
    const found = (['batch', 'agent-step', 'interactive'] as const).map((one) => refusedOf(one, ms));
    assert.deepEqual(found, expected, `${ms} ms`);
  }
});

test('once the load is gone nothing is refused any more, and without requests nothing is sampled', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(25, loop.ports);
  refusedIn(loop, load, 30, 60, 500);
  assert.ok(load.isOverloaded);
  refusedIn(loop, load, 20, 2, 10);
  assert.equal(load.isOverloaded, false);
  assert.equal(loop.iterate(load, 2, 500, 'batch'), 0);
  for (let index = 0; index < 60; index++) loop.iterate(load, 0, 0);
  assert.equal(loop.isSampled, false);
  loop.iterate(load, 1, 1);
  assert.equal(loop.isSampled, true);
});

test('what a phase admits shrinks while iterations are too long and grows while they are not', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(25, loop.ports);
  refusedIn(loop, load, 6, 60, 1000);
  const early = loop.iterate(load, 60, 1000);
  refusedIn(loop, load, 20, 60, 1000);
  const later = loop.iterate(load, 60, 1000);
  assert.ok(later > early, `${later} after ${early}`);
  refusedIn(loop, load, 60, 14, 1000);
  assert.ok(loop.iterate(load, 60, 1000) < later);
});

test('0 refuses nothing, whatever the delay', () => {
  const loop = new FakeLoop();
  const load = new LoadShedding(0, loop.ports);
  assert.equal(refusedIn(loop, load, 100, 500, 500), 0);
  assert.equal(loop.isSampled, false);
});

test('a header can only lower the priority', () => {
  const given = ['batch', 'agent-step', 'interactive', 'urgent', '', 'BATCH', undefined, ['batch', 'batch']];
  assert.deepEqual(given.map(priorityOf), [
    'batch',
    'agent-step',
    ...Array.from({ length: 6 }, () => 'interactive'),
  ]);
});
