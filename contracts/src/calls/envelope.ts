import { z } from 'zod';
import { isPermission, operatorRoles, type Permission, roles } from '../permissions.ts';
import { maximumCallMs } from './service-api.ts';

/**
 * What a call between two processes carries beside its input. The same facts reach a local callee as a plain object
 * (`CallContext` of server/src/platform/calls). Unknown members are passed over, so that a newer caller can add one.
 *
 * `POST /internal/v1/<service>/<method>`, body `CallEnvelope`, answer `CallAnswer`.
 */
export const internalPrefix = '/internal/v1';

const permission = z.custom<Permission>((value) => typeof value === 'string' && isPermission(value));

/** Who the call is made for. `system` is a job or a task of Stoa itself, by its name. */
export const callPrincipal = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('tenant'),
    tenant_id: z.uuid(),
    key_id: z.string().min(1).max(100),
    role: z.enum(roles),
    /** Null: all of the role's. */
    scopes: z.array(permission).nullable(),
    project_id: z.string().max(128).nullable(),
    tags: z.record(z.string(), z.string()),
    /** Left out where they have none, and by older callers. */
    member_id: z.uuid().optional(),
    token_id: z.string().min(1).max(256).optional(),
    end_user: z.string().min(1).max(512).optional(),
  }),
  z.object({
    kind: z.literal('operator'),
    key_id: z.string().min(1).max(100),
    /** A caller that names none is an older one; it gets the least. */
    role: z.enum(operatorRoles).default('operator-readonly'),
  }),
  z.object({ kind: z.literal('system'), name: z.string().min(1).max(100) }),
]);
export type WirePrincipal = z.output<typeof callPrincipal>;

export const callEnvelope = z.object({
  version: z.literal(1),
  /** UUID text of the tenant whose data the call touches; null where it touches none. A tenant's principal has its own. */
  tenant_id: z.uuid().nullable(),
  principal: callPrincipal,
  /** What is left of the caller's time when it sends, so that clocks need not agree. */
  remaining_ms: z.int().min(1).max(maximumCallMs),
  /** W3C Trace Context. */
  traceparent: z.string().max(256).nullable(),
  idempotency_key: z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/)
    .nullable(),
  /** In the wire form of the method's input. */
  input: z.unknown(),
});
export type CallEnvelope = z.output<typeof callEnvelope>;

/**
 * What the method ended in. An answer of another shape is not the method's but of something on the way (a wrong
 * signature, a process that starts or drains), and its code is never shown as the method's.
 */
export const callAnswer = z.union([
  z.object({ version: z.literal(1), output: z.unknown() }).refine((answer) => 'output' in answer),
  z.object({
    version: z.literal(1),
    error: z.object({
      code: z.string(),
      message: z.string(),
      param: z.string().nullable(),
      retry_after_ms: z.number().min(0).nullable(),
      was_money_spent: z.boolean(),
      details: z.record(z.string(), z.unknown()),
    }),
  }),
]);
export type CallAnswer = z.output<typeof callAnswer>;
