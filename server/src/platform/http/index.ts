export { createBodyBudget } from './body.ts';
export { httpMetrics } from './metrics.ts';
export {
  creatingOperatorRoute,
  creatingTenantRoute,
  openRoute,
  operatorRoute,
  tenantRoute,
} from './routes.ts';
export { createHttpServer } from './server.ts';
export type { AccessLine, HttpServer } from './server.ts';
export type * from './types.ts';
export { createOutboundClient } from './outbound.ts';
export type * from './outbound-types.ts';
