import { z } from 'zod';
import type { ErrorCode } from '../errors.ts';

/**
 * What a service answers to other services, described once. `bind` (server/src/app/bind.ts) makes a typed object of it,
 * local or remote; the contract suite `callsContract` runs over it.
 */
export interface CallMethod<Input extends z.ZodType = z.ZodType, Output extends z.ZodType = z.ZodType> {
  /** One value, an object as a rule; `wireNothing` where there is none. */
  readonly input: Input;
  readonly output: Output;
  /**
   * True where a second call with the same idempotency key and input has no further effect and gives the same answer. Such
   * a call is sent again when its connection fails, and the contract suite calls it twice.
   */
  readonly isIdempotent: boolean;
  /** The longest that one call may take, 1 ms to 10 minutes; a caller's own deadline shortens it. */
  readonly timeoutMs: number;
  /** Codes that the method itself answers with, beside those of the way (`callErrors`). */
  readonly errors?: readonly ErrorCode[];
}

export interface ServiceApi {
  /** Lower case and dashes; part of the path. */
  readonly service: string;
  /** By name in camel case. */
  readonly methods: Readonly<Record<string, CallMethod>>;
}

/** What any call may end in, whatever the method. */
export const callErrors: readonly ErrorCode[] = [
  'internal_error',
  'deadline_exceeded',
  'role_unavailable',
  'client_closed',
  'overloaded',
  'database_unavailable',
];

export const maximumCallMs = 600_000;

/**
 * Declares a service's API and keeps the exact types of its shapes.
 * @throws RangeError where a name, a time or a schema cannot be carried: at load, so that no test can miss it
 */
export function defineServiceApi<const Api extends ServiceApi>(api: Api): Api {
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(api.service)) throw new RangeError(`${api.service} is no service name`);
  for (const [name, method] of Object.entries(api.methods)) {
    const place = `${api.service}.${name}`;
    if (!/^[a-z][A-Za-z0-9]{0,62}$/.test(name)) throw new RangeError(`${place} is no method name`);
    const { timeoutMs } = method;
    if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > maximumCallMs) {
      throw new RangeError(`${place}: timeoutMs must be 1 to ${maximumCallMs}`);
    }
    requireJson(method.input, `${place}: the input`);
    requireJson(method.output, `${place}: the output`);
  }
  return api;
}

/** The wire side of a schema must have a JSON form; writing its JSON Schema is the proof. */
function requireJson(schema: z.ZodType, what: string): void {
  try {
    z.toJSONSchema(schema, { io: 'input', cycles: 'ref' });
  } catch (cause) {
    throw new RangeError(`${what} cannot cross the wire; use the codecs of wire-values.ts`, { cause });
  }
}
