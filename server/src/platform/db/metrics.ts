import type { MetricDeclaration, MetricRegistry } from '#telemetry';
import type { Database } from './types.ts';

/** How the database is used; read from the port's own counts when somebody scrapes. */
export const databaseMetrics = {
  doors: {
    name: 'stoa_database_doors_total',
    help: 'Transactions begun, by door (`tenant`, `operator`, `system`) and, for `system`, by job.',
    labels: ['door', 'job'],
  },
} as const satisfies Record<string, MetricDeclaration>;

/** Shows the port's counts in the registry. Call once for each database. */
export function observeDatabase(registry: MetricRegistry, db: Pick<Database, 'doorCounts'>): void {
  registry.observedGauge(databaseMetrics.doors, () => {
    const counts = db.doorCounts();
    const jobs = Object.entries(counts.system).map(([job, value]) => ({
      value,
      labels: { door: 'system', job },
    }));
    return [
      { value: counts.tenant, labels: { door: 'tenant', job: '' } },
      { value: counts.operator, labels: { door: 'operator', job: '' } },
      ...jobs,
    ];
  });
}
