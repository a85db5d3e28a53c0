import type { Database } from '#db';
import type { Denied, Route } from '#http';
import type { TimerTask } from '#jobs';
import type { Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { createDenials, type RefusedKey } from './denials.ts';
import { auditRoutes, ownAuditRoutes } from './http.ts';
import { auditMetrics } from './metrics.ts';
import { createAuditMonths } from './months.ts';

export interface AuditDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface AuditSettings {
  /** How long entries are kept: months, 3 and up; default 13. */
  readonly retentionMonths?: number;
}

export interface AuditModule {
  readonly api: {
    /** Counts a denied act; for the edge. */
    denied(denied: Denied): void;
    /** Counts a key that was refused though its secret was right; for authentication. */
    refused(refused: RefusedKey): void;
    /** Writes the denied acts that were counted, now. Never rejects. */
    writeDenied(): Promise<void>;
  };
  /** For both listeners: each endpoint names its own. */
  readonly routes: Route[];
  /** For one process at a time. */
  readonly tasks: readonly TimerTask[];
  /** In every process. `stop` writes the denied acts that are not written yet. */
  readonly lifecycle: Lifecycle;
}

/** Shows the audit, counts denied acts, keeps its months. Entries of changes are written by the doors. See README.md. */
export function createAudit(deps: AuditDeps, settings: AuditSettings = {}): AuditModule {
  const { db, logger } = deps;
  const denials = createDenials({ db, logger, metrics: auditMetrics(deps.metrics) });
  const months = createAuditMonths(deps, settings.retentionMonths ?? 13);
  return {
    api: {
      denied: (denied) => denials.note(denied),
      refused: (refused) => denials.noteRefused(refused),
      writeDenied: () => denials.flush(),
    },
    routes: [...auditRoutes(db), ...ownAuditRoutes(db)],
    tasks: [months.task],
    lifecycle: {
      async start() {
        await months.prepare();
        await denials.lifecycle.start();
      },
      stop: () => denials.lifecycle.stop(),
    },
  };
}
