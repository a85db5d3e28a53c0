import assert from 'node:assert/strict';
import { test } from 'node:test';
import { register } from 'prom-client';
import { createMetricRegistry, seriesLimit } from './registry.ts';

function fresh() {
  const failures: string[] = [];
  const registry = createMetricRegistry((name) => failures.push(name));
  return { ...registry, failures };
}

test('a counter adds up per set of labels and is rendered as Prometheus reads it', async () => {
  const { metrics, render } = fresh();
  const requests = metrics.counter({
    name: 'stoa_requests_total',
    help: 'Requests.',
    labels: ['target', 'outcome'],
  });
  requests.add(1, { target: 'a', outcome: 'completed' });
  requests.add(2, { outcome: 'completed', target: 'a' });
  requests.add(1, { target: 'a"\n\\', outcome: 'failed' });
  const text = await render();
  assert.match(text, /^# HELP stoa_requests_total Requests\.$/m);
  assert.match(text, /^# TYPE stoa_requests_total counter$/m);
  assert.match(text, /^stoa_requests_total\{target="a",outcome="completed"\} 3$/m);
  assert.match(text, /^stoa_requests_total\{target="a\\"\\n\\\\",outcome="failed"\} 1$/m);
});

test('a counter never goes down, and takes no value that is no number', async () => {
  const { metrics, render } = fresh();
  const counter = metrics.counter({ name: 'stoa_x_total', help: 'x' });
  for (const value of [2, -1, Number.NaN, Number.POSITIVE_INFINITY]) counter.add(value);
  assert.match(await render(), /^stoa_x_total 2$/m);
});

test('a histogram counts into cumulative buckets, a value on a bound inside it', async () => {
  const { metrics, render } = fresh();
  const seconds = metrics.histogram({ name: 'stoa_x_seconds', help: 'x', labels: ['a'], buckets: [0.1, 1] });
  for (const value of [0.1, 0.5, 1, 7, Number.NaN]) seconds.observe(value, { a: 'b' });
  const text = await render();
  assert.match(text, /^stoa_x_seconds_bucket\{le="0\.1",a="b"\} 1$/m);
  assert.match(text, /^stoa_x_seconds_bucket\{le="1",a="b"\} 3$/m);
  assert.match(text, /^stoa_x_seconds_bucket\{le="\+Inf",a="b"\} 4$/m);
  assert.match(text, /^stoa_x_seconds_sum\{a="b"\} 8\.6$/m);
  assert.match(text, /^stoa_x_seconds_count\{a="b"\} 4$/m);
});

test('a gauge holds its last value; an observed one is read at the scrape; `_total` makes an observed counter', async () => {
  const { metrics, render } = fresh();
  const depth = metrics.gauge({ name: 'stoa_depth_records', help: 'x' });
  depth.set(3);
  depth.set(2);
  let reads = 0;
  metrics.observedGauge({ name: 'stoa_reads_total', help: 'x' }, () => ++reads);
  metrics.observedGauge({ name: 'stoa_open_requests', help: 'x', labels: ['kind'] }, () => [
    { value: 5, labels: { kind: 'a' } },
  ]);
  await render();
  const text = await render();
  assert.match(text, /^stoa_depth_records 2$/m);
  assert.match(text, /^# TYPE stoa_reads_total counter\nstoa_reads_total 2$/m);
  assert.match(text, /^stoa_open_requests\{kind="a"\} 5$/m);
});

test('a metric that cannot be read is left out of the scrape, told once, and takes no other with it', async () => {
  const { metrics, render, failures } = fresh();
  metrics.observedGauge({ name: 'stoa_bad_records', help: 'x' }, () => {
    throw new Error('away');
  });
  metrics.gauge({ name: 'stoa_good_records', help: 'x' }).set(1);
  await render();
  const text = await render();
  assert.ok(!/^stoa_bad_records/m.test(text));
  assert.match(text, /^stoa_good_records 1$/m);
  assert.deepEqual(failures, ['stoa_bad_records']);
});

test('beyond a thousand series all further ones share `other`, and no count is lost', async () => {
  const { metrics, render } = fresh();
  const counter = metrics.counter({ name: 'stoa_x_total', help: 'x', labels: ['model', 'status'] });
  const many = seriesLimit + 500;
  for (let index = 0; index < many; index++) counter.add(1, { model: `m${index}`, status: '200' });
  counter.add(1, { model: 'm0', status: '200' });
  const observed = Array.from({ length: many }, (_, index) => ({ value: 2, labels: { model: `m${index}` } }));
  metrics.observedGauge({ name: 'stoa_y_records', help: 'y', labels: ['model'] }, () => observed);
  const text = await render();
  const lines = text.split('\n').filter((line) => line.startsWith('stoa_x_total{'));
  assert.equal(lines.length, seriesLimit + 1);
  assert.ok(lines.includes('stoa_x_total{model="m0",status="200"} 2'));
  assert.ok(lines.includes('stoa_x_total{model="other",status="other"} 500'));
  assert.ok(text.includes('stoa_y_records{model="other"} 1000'));
});

test('a label without a bound is refused, tenant first of all', () => {
  const { metrics } = fresh();
  for (const label of ['tenant', 'tenant_id', 'key_id', 'end_user', 'request_id']) {
    const declaration = { name: 'stoa_x_total', help: 'x', labels: ['model', label] };
    assert.throws(() => metrics.counter(declaration), /no bound/);
    assert.throws(() => metrics.observedGauge(declaration, () => 1), /no bound/);
  }
});

test('names, kinds and labels are held to their declaration', () => {
  const { metrics } = fresh();
  assert.throws(() => metrics.counter({ name: 'stoa_requests', help: 'x' }), /not a counter/);
  assert.throws(() => metrics.gauge({ name: 'stoa_requests_total', help: 'x' }), /not a gauge/);
  assert.throws(() => metrics.histogram({ name: 'stoa_x_seconds', help: 'x' }), /not a histogram/);
  assert.throws(() => metrics.gauge({ name: 'requests', help: 'x' }), /no name/);
  const counter = metrics.counter({ name: 'stoa_x_total', help: 'x', labels: ['a'] });
  assert.throws(() => counter.add(1), /labels/);
  assert.throws(() => counter.add(1, { b: 'x' }), /labels/);
  assert.throws(() => counter.add(1, { a: 'x', b: 'x' }), /labels/);
  assert.throws(() => metrics.counter({ name: 'stoa_x_total', help: 'x' }), /already been registered/);
});

test("nothing lands in prom-client's global registry", async () => {
  fresh().metrics.counter({ name: 'stoa_x_total', help: 'x' }).add(1);
  assert.equal((await register.metrics()).trim(), '');
});
