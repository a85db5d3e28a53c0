import type { CallMethod, ServiceApi } from '@stoa/contracts';
import type { Principal, TenantId } from '#kernel';
import type { z } from 'zod';

/** A job or a task of Stoa itself, by its name. */
export interface SystemPrincipal {
  readonly kind: 'system';
  readonly name: string;
}

export type CallPrincipal = Principal | SystemPrincipal;

/** What every method of a service knows of its call beside the input; made by `createCall`. */
export interface CallContext {
  /** Whose data the call touches; null where it touches no tenant's. */
  readonly tenantId: TenantId | null;
  /**
   * Who it is made for. Over HTTP the `standing` of a tenant's principal is what it was when the call was sent: work that
   * outlives the call asks control/access again.
   */
  readonly principal: CallPrincipal;
  /** By this process's monotonic clock: when an answer is of no more use. */
  readonly deadlineAtMs: number;
  /** Aborts at the deadline and when the caller went away. */
  readonly signal: AbortSignal;
  /** W3C Trace Context, unchecked, or null. */
  readonly traceparent: string | null;
  /** 1 to 255 printable ASCII characters; set in every idempotent call. */
  readonly idempotencyKey: string | null;
}

type MethodOf<Method> =
  Method extends CallMethod<infer Input, infer Output>
    ? (input: z.output<Input>, call: CallContext) => Promise<z.output<Output>>
    : never;

/** A service as its callers have it, and as it implements itself: the same type, local or remote. */
export type ServiceOf<Api extends ServiceApi> = {
  readonly [Name in keyof Api['methods']]: MethodOf<Api['methods'][Name]>;
};

/** A service whose exact types were left behind: what the parts that treat every service alike work on. */
export type PlainService = Readonly<Record<string, (input: unknown, call: CallContext) => Promise<unknown>>>;

/** A service and its description, for the receiving side; made by `serveApi`. */
export interface ServedApi {
  readonly api: ServiceApi;
  readonly service: PlainService;
}
