import type { Settings, TenantLimitRule } from '@stoa/contracts';
import type { CacheModule } from '#cache';
import { systemClock } from '#kernel';
import { createQuotas, type QuotasModule } from '#quotas';
import type { ComposeInput } from './compose.ts';

/** In every role: requests that are limited may come to each. Only gateways take a share of the limits while Redis is away. */
export function composeQuotas(
  { settings, db, telemetry: { logger, metrics }, roles }: ComposeInput,
  { limits, rollCall, broadcast }: Pick<CacheModule, 'limits' | 'rollCall' | 'broadcast'>,
): QuotasModule {
  return createQuotas(
    { db, clock: systemClock, logger, metrics, limits, rollCall, broadcast },
    {
      defaultRules: defaultRules(settings),
      unknownKeysPerMinute: settings.unknownKeysPerMinute,
      pollEveryMs: settings.snapshotPollMs,
      isEnforcing: roles.has('gateway'),
    },
  );
}

/** What holds for tenants that the operator set no limits for. */
function defaultRules(
  settings: Pick<
    Settings,
    'limitRequestsPerMinute' | 'limitTokensPerMinute' | 'limitAddressRequestsPerMinute'
  >,
): readonly TenantLimitRule[] {
  const rules = [
    { meter: 'requests', per: 'tenant', limit: settings.limitRequestsPerMinute },
    { meter: 'tokens', per: 'tenant', limit: settings.limitTokensPerMinute },
    { meter: 'requests', per: 'ip', limit: settings.limitAddressRequestsPerMinute },
  ] as const;
  return rules.flatMap(({ meter, per, limit }) =>
    limit === null ? [] : [{ meter, per, route_class: 'any' as const, limit, period_s: 60, burst: limit }],
  );
}
