import type { MetricRegistry } from '#telemetry';

/** What the journal and settlement tell about themselves. No labels: there is one journal in a process. */
export function journalMetrics(registry: MetricRegistry) {
  return {
    writeFailures: registry.counter({
      name: 'stoa_journal_write_failures_total',
      help: 'Lines that the disk did not take',
    }),
    refusals: registry.counter({
      name: 'stoa_journal_refusals_total',
      help: 'Requests that were refused because their usage could not be recorded',
    }),
    droppedRefusals: registry.counter({
      name: 'stoa_journal_dropped_refusals_total',
      help: 'Records of refused requests (no usage) dropped while the journal was full',
    }),
    unconfirmed: registry.counter({
      name: 'stoa_journal_unconfirmed_total',
      help: 'Answers that ended before the database had confirmed their record, in commit mode',
    }),
    observe(read: { depth: () => number; openCount: () => number; bytes: () => number }): void {
      registry.observedGauge(
        { name: 'stoa_journal_depth_records', help: 'Records that are not in the database yet' },
        read.depth,
      );
      registry.observedGauge(
        { name: 'stoa_journal_open_requests', help: 'Requests opened and not settled' },
        read.openCount,
      );
      registry.observedGauge(
        { name: 'stoa_journal_size_bytes', help: 'Size of the journal on disk' },
        read.bytes,
      );
    },
  };
}

/** What settlement tells about itself. */
export function settlementMetrics(registry: MetricRegistry) {
  return {
    settled: registry.counter({
      name: 'stoa_settlement_records_total',
      help: 'Records written to the database',
    }),
    rejected: registry.counter({
      name: 'stoa_settlement_rejected_records_total',
      help: 'Records that the database refused for what they hold; they lie in the rejected file beside the journal',
    }),
    failures: registry.counter({
      name: 'stoa_settlement_failures_total',
      help: 'Batches that failed because the database was away, slow or not as expected; each is tried again',
    }),
    batchSeconds: registry.histogram({
      name: 'stoa_settlement_batch_duration_seconds',
      help: 'Time of one batch, from its start to its commit',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    }),
  };
}
