import type { Counter, MetricRegistry } from '#telemetry';

export interface AuditMetrics {
  readonly denials: Counter;
  readonly droppedDenials: Counter;
  readonly refusedDenials: Counter;
  readonly failedFlushes: Counter;
}

export function auditMetrics(registry: MetricRegistry): AuditMetrics {
  return {
    denials: registry.counter({
      name: 'stoa_audit_denials_total',
      help: 'Acts of known principals that were denied for want of a permission',
    }),
    droppedDenials: registry.counter({
      name: 'stoa_audit_denials_dropped_total',
      help: 'Denied acts that are in no entry: more than 10,000 principals and permissions within a minute, or 500 of one tenant',
    }),
    refusedDenials: registry.counter({
      name: 'stoa_audit_denials_refused_total',
      help: 'Denied acts that are in no entry: the database refuses the values of theirs',
    }),
    failedFlushes: registry.counter({
      name: 'stoa_audit_flush_failures_total',
      help: 'Times that denied acts could not be written; they are kept and tried again',
    }),
  };
}
