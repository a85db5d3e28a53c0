import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoadShedding, type Priority } from './shedding.ts';

/**
 * An event loop on a core of its own, by a model with the costs that were measured: each round works off what lies ready when
 * it begins. Time is the model's, so what else the machine does changes nothing. `npm run bench:overload` is the real thing.
 */
const intakeMs = 0.06;
const answerMs = 0.065;
const refusalMs = 0.03;
const upstreamMs = 2;
const capacityPerSecond = 1000 / (intakeMs + answerMs);

interface Outcome {
  readonly admitted: Record<Priority, number>;
  readonly refused: Record<Priority, number>;
  /** Of each round. */
  readonly roundsMs: readonly number[];
}

interface Run {
  readonly perSecond: number;
  readonly connections: number;
  readonly seconds: number;
  /** What is measured begins here. */
  readonly warmUpSeconds: number;
  readonly bearableMs: number;
}

function priorityOf(turn: number): Priority {
  const place = (turn * 37) % 100;
  if (place < 70) return 'interactive';
  return place < 85 ? 'agent-step' : 'batch';
}

function count(): Record<Priority, number> {
  return { interactive: 0, 'agent-step': 0, batch: 0 };
}

function run({ perSecond, connections, seconds, warmUpSeconds, bearableMs }: Run): Outcome {
  const outcome = { admitted: count(), refused: count(), roundsMs: [] as number[] };
  let [nowMs, activeMs, iterations, idle, sent, nextSampleMs] = [0, 0, 0, connections, 0, 25];
  let sample: () => void = () => undefined;
  let afterPhase: (() => void)[] = [];
  const load = new LoadShedding(bearableMs, {
    readLoop: () => ({ activeMs, iterations }),
    now: () => nowMs,
    afterPhase: (work) => void afterPhase.push(work),
    each(_ms, work) {
      sample = work;
      return () => undefined;
    },
  });
  const ready: Priority[] = [];
  let answers: number[] = [];
  const arrive = (): void => {
    for (; sent < (nowMs / 1000) * perSecond; sent++) {
      if (idle === 0) continue;
      idle -= 1;
      ready.push(priorityOf(sent));
    }
  };
  const work = (ms: number): void => {
    nowMs += ms;
    activeMs += ms;
  };
  while (nowMs < seconds * 1000) {
    arrive();
    const isMeasured = nowMs > warmUpSeconds * 1000;
    const requests = ready.splice(0);
    const due = answers.filter((atMs) => atMs <= nowMs).length;
    answers = answers.filter((atMs) => atMs > nowMs);
    const startMs = nowMs;
    for (const priority of requests) {
      const isRefused = load.refuses(priority);
      work(isRefused ? refusalMs : intakeMs);
      if (isRefused) idle += 1;
      else answers.push(nowMs + upstreamMs);
      if (isMeasured) (isRefused ? outcome.refused : outcome.admitted)[priority] += 1;
    }
    work(due * answerMs);
    idle += due;
    iterations += 1;
    for (const end of afterPhase.splice(0)) end();
    afterPhase = [];
    if (nowMs === startMs) nowMs += 0.1;
    else if (isMeasured) outcome.roundsMs.push(nowMs - startMs);
    if (nowMs >= nextSampleMs) {
      nextSampleMs = nowMs + 25;
      sample();
    }
  }
  return outcome;
}

/** The length below which the rounds of so much of the time are: long rounds count for as long as they last. */
function roundAt(share: number, roundsMs: readonly number[]): number {
  const sorted = roundsMs.toSorted((a, b) => a - b);
  const wholeMs = sorted.reduce((sum, ms) => sum + ms, 0);
  let untilMs = 0;
  for (const ms of sorted) {
    untilMs += ms;
    if (untilMs >= wholeMs * share) return ms;
  }
  return 0;
}

const sum = (counts: Record<Priority, number>): number =>
  counts.interactive + counts['agent-step'] + counts.batch;

for (const times of [1.5, 3, 5]) {
  test(`at ${times} times what saturates it, the loop's rounds stay below 50 ms and interactive work goes on`, () => {
    const load = { perSecond: capacityPerSecond * times, connections: 512, seconds: 12, warmUpSeconds: 2 };
    const { admitted, refused, roundsMs } = run({ ...load, bearableMs: 25 });
    const p99Ms = roundAt(0.99, roundsMs);
    const note = JSON.stringify({ admitted, refused, p99Ms });
    assert.ok(p99Ms < 50, note);
    assert.ok(sum(refused) > 0, note);
    assert.ok(admitted.interactive > 5 * (admitted['agent-step'] + admitted.batch), note);
    // Refusing has its price: what is left of the core goes into answers.
    const leftShare = Math.max(0.1, 1 - (sum(refused) * refusalMs) / 10_000);
    assert.ok(sum(admitted) > capacityPerSecond * 10 * leftShare * 0.6, note);
  });
}

test('without shedding the same load makes rounds that are longer than a client waits', () => {
  const load = { perSecond: capacityPerSecond * 3, connections: 512, seconds: 12, warmUpSeconds: 2 };
  const { roundsMs } = run({ ...load, bearableMs: 0 });
  assert.ok(roundAt(0.5, roundsMs) > 25, String(roundAt(0.5, roundsMs)));
});

test('below what saturates it, and with 64 connections at any load, nothing is refused', () => {
  const calm = { seconds: 5, warmUpSeconds: 0, bearableMs: 25 };
  const below = run({ ...calm, perSecond: capacityPerSecond * 0.9, connections: 2_000 });
  assert.equal(sum(below.refused), 0);
  const few = run({ ...calm, perSecond: capacityPerSecond * 5, connections: 64 });
  assert.equal(few.refused.interactive, 0);
});
