import {
  Counter as PromCounter,
  Gauge as PromGauge,
  Histogram as PromHistogram,
  Registry,
} from 'prom-client';
import { metricKind, type MetricKind } from './metric-kind.ts';
import { type Series, SeriesTable } from './series.ts';
import type { Counter, Gauge, Histogram, MetricDeclaration, MetricRegistry, ObservedValue } from './types.ts';

/** The most series that one metric holds before further ones become `other`. */
export const seriesLimit = 1_000;

/** Labels whose values have no bound. A metric that truly needs one is listed below, with its bound. */
const unboundedLabels = new Set([
  'tenant',
  'tenant_id',
  'project',
  'project_id',
  'key',
  'key_id',
  'user',
  'end_user',
  'request',
  'request_id',
  'trace_id',
]);

/** Name of a metric -> labels it may carry all the same. None needs one yet. */
const allowedUnboundedLabels: ReadonlyMap<string, readonly string[]> = new Map();

type ReadValues = () => Awaited<ReturnType<PromGauge['get']>>['values'];

interface HistogramValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly sharedLabels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface NumberCell {
  value: number;
}

interface HistogramCell {
  /** One for each bucket, not cumulative, and the last for what is above all of them. */
  readonly counts: number[];
  sum: number;
}

export interface RenderedRegistry {
  readonly metrics: MetricRegistry;
  /** The text format of Prometheus. */
  render(): Promise<string>;
  readonly contentType: string;
}

/**
 * A registry of its own (never prom-client's global one). prom-client names, registers and renders; the values live in
 * `SeriesTable`, which is what makes an observation cheap.
 * @param onReadFailure told when an observed metric's `read` throws; at most once per metric
 * @throws Error from every declaring method, where a name is taken, malformed, or carries a label without a bound
 */
export function createMetricRegistry(
  onReadFailure: (name: string, error: unknown) => void,
): RenderedRegistry {
  const registry = new Registry();
  const failed = new Set<string>();
  const readSafely = (name: string, read: () => ObservedValue): ObservedValue => {
    try {
      return read();
    } catch (error) {
      if (!failed.has(name)) {
        failed.add(name);
        onReadFailure(name, error);
      }
      return [];
    }
  };
  const metrics: MetricRegistry = {
    counter: (declaration) => counter(registry, declaration),
    gauge: (declaration) => gauge(registry, declaration),
    histogram: (declaration) => histogram(registry, declaration),
    observedGauge(declaration, read) {
      const kind = declaration.name.endsWith('_total') ? 'counter' : 'gauge';
      checkDeclaration(declaration, kind);
      const get: ReadValues = () => {
        const observed = readSafely(declaration.name, read);
        return typeof observed === 'number' ? [{ value: observed, labels: {} }] : boundedValues(observed);
      };
      if (kind === 'counter') registerCounter(registry, declaration, get);
      else registerGauge(registry, declaration, get);
    },
  };
  return { metrics, render: () => registry.metrics(), contentType: registry.contentType };
}

function counter(registry: Registry, declaration: MetricDeclaration): Counter {
  checkDeclaration(declaration, 'counter');
  const table = numberTable(declaration);
  registerCounter(registry, declaration, () => numberValues(table));
  return {
    add(value, labels) {
      if (value >= 0 && Number.isFinite(value)) table.find(labels).value += value;
    },
  };
}

function gauge(registry: Registry, declaration: MetricDeclaration): Gauge {
  checkDeclaration(declaration, 'gauge');
  const table = numberTable(declaration);
  registerGauge(registry, declaration, () => numberValues(table));
  return {
    set(value, labels) {
      table.find(labels).value = value;
    },
  };
}

function histogram(registry: Registry, declaration: MetricDeclaration): Histogram {
  checkDeclaration(declaration, 'histogram');
  const bounds = [...(declaration.buckets ?? [])];
  const table = new SeriesTable<HistogramCell>(declaration.labels ?? [], seriesLimit, () => ({
    counts: bounds.map(() => 0).concat(0),
    sum: 0,
  }));
  registerHistogram(registry, declaration, bounds, () => histogramValues(declaration.name, bounds, table));
  return {
    observe(value, labels) {
      if (Number.isNaN(value)) return;
      const cell = table.find(labels);
      let index = 0;
      while (index < bounds.length && value > (bounds[index] ?? 0)) index++;
      cell.counts[index] = (cell.counts[index] ?? 0) + 1;
      cell.sum += value;
    },
  };
}

function numberTable(declaration: MetricDeclaration): SeriesTable<NumberCell> {
  return new SeriesTable<NumberCell>(declaration.labels ?? [], seriesLimit, () => ({ value: 0 }));
}

function numberValues(table: SeriesTable<NumberCell>): ReturnType<ReadValues> {
  return table.all().map(({ labels, cell }) => ({ labels, value: cell.value }));
}

function histogramValues(
  name: string,
  bounds: readonly number[],
  table: SeriesTable<HistogramCell>,
): HistogramValue[] {
  return table.all().flatMap(({ labels, cell }: Series<HistogramCell>) => {
    let count = 0;
    const buckets = cell.counts.map((inBucket, index) => {
      count += inBucket;
      const le = bounds[index] ?? '+Inf';
      return { metricName: `${name}_bucket`, labels: { le }, sharedLabels: labels, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, sharedLabels: labels, value: cell.sum },
      { metricName: `${name}_count`, labels: {}, sharedLabels: labels, value: count },
    ];
  });
}

/** Observed values are bounded as recorded ones are: what is above the limit is summed up under `other`. */
function boundedValues(observed: Exclude<ObservedValue, number>): ReturnType<ReadValues> {
  if (observed.length <= seriesLimit) return [...observed];
  const kept = observed.slice(0, seriesLimit);
  const rest = observed.slice(seriesLimit).reduce((sum, { value }) => sum + value, 0);
  const labels = Object.fromEntries(Object.keys(kept[0]?.labels ?? {}).map((name) => [name, 'other']));
  return [...kept, { value: rest, labels }];
}

function registerCounter(registry: Registry, declaration: MetricDeclaration, values: ReadValues): void {
  class CellCounter extends PromCounter {
    override async get(): ReturnType<PromCounter['get']> {
      return { ...(await super.get()), values: values() };
    }
  }
  registry.registerMetric(new CellCounter(promConfiguration(declaration)));
}

function registerGauge(registry: Registry, declaration: MetricDeclaration, values: ReadValues): void {
  class CellGauge extends PromGauge {
    override async get(): ReturnType<PromGauge['get']> {
      return { ...(await super.get()), values: values() };
    }
  }
  registry.registerMetric(new CellGauge(promConfiguration(declaration)));
}

function registerHistogram(
  registry: Registry,
  declaration: MetricDeclaration,
  buckets: number[],
  values: () => HistogramValue[],
): void {
  class CellHistogram extends PromHistogram {
    /** What prom-client's own `get` and its text rendering both ask a histogram for. */
    getForPromString(): Promise<object> {
      const { name, help } = declaration;
      return Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values: values() });
    }
  }
  registry.registerMetric(new CellHistogram({ ...promConfiguration(declaration), buckets }));
}

/** `registers: []` keeps prom-client from also putting the metric into its global registry. */
function promConfiguration(declaration: MetricDeclaration) {
  const labelNames = [...(declaration.labels ?? [])];
  return { name: declaration.name, help: declaration.help, labelNames, registers: [] };
}

function checkDeclaration(declaration: MetricDeclaration, kind: MetricKind): void {
  const { name, labels = [] } = declaration;
  if (!/^(?:stoa|process|nodejs)(?:_[a-z0-9]+)+$/.test(name))
    throw new Error(`${name} is no name for a metric of Stoa`);
  if (metricKind(declaration) !== kind)
    throw new Error(`${name} is declared as a ${metricKind(declaration)}, not a ${kind}`);
  const allowed = allowedUnboundedLabels.get(name) ?? [];
  for (const label of labels) {
    if (unboundedLabels.has(label) && !allowed.includes(label)) {
      throw new Error(`${name} has the label ${label}, whose values have no bound`);
    }
  }
}
