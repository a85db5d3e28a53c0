import { type Logger, type TenantId, toTypeId } from '#kernel';
import type { ProviderFault, Target } from '#models';
import { isProviderFault } from './attempts/fault-errors.ts';

/** Whose request met a fault. */
export interface FaultedRequest {
  readonly publicRequestId: string;
  readonly tenantId: TenantId;
  readonly traceId: string;
}

/** One line per fault, for the operator: a warning where the provider is at fault. */
export function logFault(
  logger: Logger,
  request: FaultedRequest,
  target: Target,
  fault: ProviderFault,
): void {
  const fields = {
    request_id: request.publicRequestId,
    tenant_id: toTypeId('ten', request.tenantId),
    trace_id: request.traceId,
    target: target.id,
    provider: target.provider.id,
    fault: fault.kind,
    status: fault.status,
    detail: fault.detail,
    provider_request_id: fault.providerRequestId,
  };
  if (isProviderFault(fault)) logger.warn(fields, 'a provider failed');
  else logger.info(fields, 'a provider refused a request');
}
