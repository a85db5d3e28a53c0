import { getLiveness, getMetrics, getOpenapi, getReadiness } from '@stoa/contracts';
import { openRoute, type Route } from '#http';
import { AppError } from '#kernel';
import type { Readiness } from './readiness.ts';

export interface PlainRouteDeps {
  readonly readiness: Readiness;
  openapi(): unknown;
  renderMetrics(): Promise<{ readonly contentType: string; readonly content: string }>;
}

/** The four paths that need no credential. */
export function plainRoutes(deps: PlainRouteDeps): { readonly public: Route[]; readonly admin: Route[] } {
  return {
    public: [
      openRoute(getLiveness, async () => ({ status: 200, body: { status: 'live' } })),
      openRoute(getReadiness, async () => {
        const refusal = refusalOf(deps.readiness);
        if (refusal) throw refusal;
        return { status: 200, body: { status: 'ready', degraded: deps.readiness.degraded() } };
      }),
      openRoute(getOpenapi, async () => ({ status: 200, body: deps.openapi() })),
    ],
    admin: [openRoute(getMetrics, async () => ({ status: 200, text: await deps.renderMetrics() }))],
  };
}

/** Why the process should get no traffic, or null. */
function refusalOf(readiness: Readiness): AppError | null {
  switch (readiness.phase) {
    case 'ready':
      return null;
    case 'starting':
      return new AppError('starting', 'This process is starting.', { retryAfterMs: 1_000 });
    case 'draining':
      return new AppError('draining', 'This process is shutting down.', { retryAfterMs: 1_000 });
    case 'schema_behind':
      return new AppError(
        'schema_behind',
        'The database schema is older than this version needs: run `stoa db migrate` of this version.',
        { retryAfterMs: 10_000 },
      );
    case 'schema_ahead':
      return new AppError(
        'schema_ahead',
        'The database schema is newer than this version serves: a newer version has taken away what this one uses. Start the newer version; `stoa db status` shows what applied.',
        { retryAfterMs: 10_000 },
      );
  }
}

/** Why the process answers no calls at all: only until it has started. While it drains it goes on answering. */
export function closureOf(readiness: Readiness): AppError | null {
  return readiness.phase === 'draining' ? null : refusalOf(readiness);
}
