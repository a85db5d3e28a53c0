export { createBodyBudget } from './body.ts';
export { setRateLimitFields } from './edge/rate-limit.ts';
export { LoadShedding } from './edge/shedding.ts';
export { addressFault, faultOfAddress } from './free-address.ts';
export { httpMetrics } from './metrics.ts';
export {
  creatingOperatorRoute,
  creatingTenantRoute,
  openRoute,
  operatorRoute,
  tenantRoute,
} from './routes.ts';
export { createHttpServer } from './server.ts';
export type { AccessLine, Denied, HttpServer, HttpServerDeps } from './server.ts';
export type * from './types.ts';
export { createOutboundClient } from './outbound.ts';
export type * from './outbound-types.ts';
export { readOutboundAllowances } from './guarded/allow-setting.ts';
export type { OutboundAllowances } from './guarded/allow-setting.ts';
export type { AllowList } from './guarded/allow-list.ts';
export { createGuardedClient } from './guarded/guarded.ts';
export type * from './guarded/guarded-types.ts';
export type { Resolve } from './guarded/resolve.ts';
