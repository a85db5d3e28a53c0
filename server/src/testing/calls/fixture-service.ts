import {
  defineServiceApi,
  wireBigint,
  wireBytes,
  wireDate,
  wireNothing,
  wireUndefinable,
} from '@stoa/contracts';
import { z } from 'zod';
import type { ServiceOf } from '#calls';
import { AppError } from '#kernel';

/** A service that exists for tests only: a little of all that a real one does. */
export const fixtureApi = defineServiceApi({
  service: 'fixture',
  methods: {
    /** Gives back what it got, of every kind of value. */
    echo: {
      input: z.object({
        amount: wireBigint,
        at: wireDate,
        bytes: wireBytes,
        note: z.string().optional(),
        slots: z.array(wireUndefinable(wireBigint)),
      }),
      output: z.object({
        amount: wireBigint,
        at: wireDate,
        bytes: wireBytes,
        note: z.string().optional(),
        slots: z.array(wireUndefinable(wireBigint)),
      }),
      isIdempotent: true,
      timeoutMs: 5_000,
    },
    /** Adds to a sum, once for each key, and answers with the sum after it. */
    add: {
      input: z.object({ amount: wireBigint }),
      output: z.object({ sum: wireBigint }),
      isIdempotent: true,
      timeoutMs: 5_000,
    },
    /** Counts its calls, so it is not idempotent. */
    count: { input: wireNothing, output: z.int(), isIdempotent: false, timeoutMs: 5_000 },
    /** Throws as it is told; `unknown` is no AppError. */
    fail: {
      input: z.object({ how: z.enum(['conflict', 'limited', 'unknown']) }),
      output: wireNothing,
      isIdempotent: true,
      timeoutMs: 5_000,
      errors: ['conflict', 'rate_limit_exceeded'],
    },
    /** Tells what it knows of its call. */
    whoami: {
      input: wireNothing,
      output: z.object({
        tenantId: z.string().nullable(),
        kind: z.string(),
        scopes: z.array(z.string()).nullable(),
        traceparent: z.string().nullable(),
        idempotencyKey: z.string().nullable(),
      }),
      isIdempotent: true,
      timeoutMs: 5_000,
    },
    /** Waits for its signal, however long that takes. */
    wait: { input: wireNothing, output: wireNothing, isIdempotent: false, timeoutMs: 400 },
  },
});

export interface FixtureState {
  readonly sums: Map<string, bigint>;
  sum: bigint;
  calls: number;
  /** Calls of `wait` that were told to stop. */
  stopped: number;
  waiting: number;
  /** Time left of the last call of `whoami`, in the monotonic clock of this process. */
  lastDeadlineAtMs: number;
}

export function createFixtureService(): { service: ServiceOf<typeof fixtureApi>; state: FixtureState } {
  const state: FixtureState = {
    sums: new Map(),
    sum: 0n,
    calls: 0,
    stopped: 0,
    waiting: 0,
    lastDeadlineAtMs: 0,
  };
  const service: ServiceOf<typeof fixtureApi> = {
    echo: async (input) => input,
    async add({ amount }, { idempotencyKey }) {
      const key = idempotencyKey ?? '';
      const known = state.sums.get(key);
      if (known !== undefined) return { sum: known };
      state.sum += amount;
      state.sums.set(key, state.sum);
      return { sum: state.sum };
    },
    async count() {
      state.calls += 1;
      return state.calls;
    },
    async fail({ how }) {
      if (how === 'conflict')
        throw new AppError('conflict', 'It is taken.', { details: { by: 'another', sum: 5n } });
      if (how === 'limited')
        throw new AppError('rate_limit_exceeded', 'Too fast.', { retryAfterMs: 2_500, param: 'how' });
      throw new TypeError('secret_table is broken');
    },
    async whoami(_input, call) {
      const { tenantId, principal, traceparent, idempotencyKey } = call;
      state.lastDeadlineAtMs = call.deadlineAtMs;
      const scopes = principal.kind === 'tenant' && principal.scopes ? [...principal.scopes] : null;
      return { tenantId, kind: principal.kind, scopes, traceparent, idempotencyKey };
    },
    wait: (_input, { signal }) => {
      state.waiting += 1;
      return new Promise<undefined>((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          state.stopped += 1;
          reject(new AppError('client_closed', 'Stopped.'));
        });
      });
    },
  };
  return { service, state };
}
