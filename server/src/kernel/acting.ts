import type { Role } from '@stoa/contracts';
import { type TenantId, toTypeId } from './ids.ts';
import type { OperatorPrincipal, TenantPrincipal } from './principal.ts';

/** What the audit says of a request beside its principal. */
export interface RequestOrigin {
  /** `req_...` */
  readonly publicRequestId: string;
  readonly clientAddress: string;
  /** As the client gave it, or null. */
  readonly userAgent: string | null;
}

/** Who a tenant's caller is, by the ids that the wire shows. */
export interface Caller {
  readonly type: 'key' | 'token';
  readonly id: string;
  readonly role: Role;
  readonly memberId?: string | null;
  readonly tokenId?: string | null;
}

/** A tenant's door, opened by somebody whom the audit can name. */
export interface TenantActing {
  readonly tenantId: TenantId;
  readonly actor: Caller;
  /** `req_...` */
  readonly requestId: string;
  readonly clientAddress: string;
  readonly userAgent: string | null;
}

export function actorOf({ keyId, role, memberId, tokenId }: TenantPrincipal): Caller {
  return {
    type: tokenId === undefined ? 'key' : 'token',
    id: keyId,
    role,
    memberId: memberId === undefined ? null : toTypeId('mem', memberId),
    tokenId: tokenId ?? null,
  };
}

/** With what a tenant's door is opened for a request, so that the audit knows who came through. */
export function actingTenant(principal: TenantPrincipal, origin: RequestOrigin): TenantActing {
  return { tenantId: principal.tenantId, actor: actorOf(principal), ...requestFacts(origin) };
}

/**
 * With what the operator's door is opened for a request.
 * @param tenantId UUID text of the tenant acted upon, where there is one
 */
export function actingOperator(
  principal: OperatorPrincipal,
  origin: RequestOrigin,
  tenantId?: string | null,
) {
  return {
    operator: principal.keyId,
    role: principal.role,
    ...requestFacts(origin),
    ...(tenantId === undefined || tenantId === null ? {} : { tenantId }),
  };
}

function requestFacts({ publicRequestId, clientAddress, userAgent }: RequestOrigin) {
  return { requestId: publicRequestId, clientAddress, userAgent };
}
