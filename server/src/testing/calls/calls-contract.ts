import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { callErrors, type ServiceApi } from '@stoa/contracts';
import type { z } from 'zod';
import {
  type CallContext,
  codecService,
  createCall,
  createClusterSigner,
  createDestinations,
  localService,
  remoteService,
  type ServiceOf,
  serveApi,
} from '#calls';
import { createOutboundClient } from '#http';
import { AppError, asTenantId, newUuid, silentLogger, systemClock, type TenantPrincipal } from '#kernel';
import { startReceiver, testSecrets } from './test-listener.ts';

/**
 * The contract of a service API: its test runs this over it, and it holds in three modes.
 *
 * - `local`: plain calls
 * - `codec`: local calls that go through the codec both ways, each idempotent one made twice with one key
 * - `remote`: real HTTP between two ends in this process, signed, each idempotent one made twice with one key
 *
 * In each, every method answers its examples as they say: what it answers with, and which of its declared errors it
 * throws. What else a service promises goes into `tests`, which run in each mode, too.
 */
export interface CallsContract<Api extends ServiceApi> {
  /** A fresh implementation, once for each mode. */
  open(): ServiceOf<Api> | Promise<ServiceOf<Api>>;
  /** At least one for each method. */
  readonly examples: {
    readonly [Name in keyof Api['methods']]: readonly CallExample<
      z.output<Api['methods'][Name]['input']>,
      z.output<Api['methods'][Name]['output']>
    >[];
  };
  /** By the guarantee that each proves. */
  readonly tests?: Readonly<Record<string, (service: ServiceOf<Api>, mode: CallMode) => Promise<void>>>;
}

export type CallMode = 'local' | 'codec' | 'remote';

export interface CallExample<Input, Output> {
  readonly input: Input;
  /** What it answers, or how that is checked; left out, any answer of the declared shape will do. */
  readonly output?: Output | ((output: Output) => void);
  /** The code that it throws instead. */
  readonly error?: string;
}

/** A call for tests, by a tenant's key; `changes` go over it. */
export function testCall(changes: Partial<Parameters<typeof createCall>[1]> = {}): CallContext {
  return createCall(systemClock, { principal: testPrincipal(), timeoutMs: 10_000, ...changes });
}

export function testPrincipal(): TenantPrincipal {
  return {
    kind: 'tenant',
    tenantId: asTenantId(newUuid()),
    keyId: '00abcdefghij',
    role: 'developer',
    scopes: new Set(['chat:create']),
    projectId: null,
    tags: { team: 'a' },
    standing: { refusal: null },
  };
}

/** Registers the tests; call it at the top of a test file. */
export function callsContract<Api extends ServiceApi>(api: Api, contract: CallsContract<Api>): void {
  for (const mode of ['local', 'codec', 'remote'] as const) {
    const opened = openOnce(api, contract, mode);
    for (const name of Object.keys(api.methods)) {
      test(`${api.service}.${name} answers its examples (${mode})`, async () => {
        await runExamples(api, contract, name, mode, await opened());
      });
    }
    for (const [guarantee, run] of Object.entries(contract.tests ?? {})) {
      test(`${api.service}: ${guarantee} (${mode})`, async () => run(await opened(), mode));
    }
  }
}

function openOnce<Api extends ServiceApi>(
  api: Api,
  contract: CallsContract<Api>,
  mode: CallMode,
): () => Promise<ServiceOf<Api>> {
  let opened: Promise<OpenedService<Api>> | null = null;
  after(async () => {
    if (opened !== null) await (await opened).close();
  });
  return async () => (await (opened ??= openService(api, await contract.open(), mode))).service;
}

export interface OpenedService<Api extends ServiceApi> {
  readonly service: ServiceOf<Api>;
  close(): Promise<void>;
}

/** A service as its callers have it in one of the modes. */
export async function openService<Api extends ServiceApi>(
  api: Api,
  implementation: ServiceOf<Api>,
  mode: CallMode,
): Promise<OpenedService<Api>> {
  const clock = systemClock;
  if (mode !== 'remote') {
    const make = mode === 'codec' ? codecService : localService;
    return { service: make(api, implementation, clock), close: () => Promise.resolve() };
  }
  const listener = await startReceiver([serveApi(api, implementation)]);
  const outbound = createOutboundClient();
  const signer = createClusterSigner(testSecrets, clock);
  const destinations = createDestinations(api.service, [listener.origin], clock);
  return {
    service: remoteService(api, destinations, { outbound, signer, clock, logger: silentLogger }),
    async close() {
      await outbound.close();
      await listener.close();
    },
  };
}

/** The same without the exact types, which a loop over all methods cannot keep. */
interface PlainContract {
  readonly examples: Readonly<Record<string, readonly PlainExample[] | undefined>>;
}
type PlainExample = {
  readonly input: unknown;
  readonly output?: unknown;
  readonly error?: string;
};
type PlainMethods = Readonly<
  Record<string, ((input: unknown, call: CallContext) => Promise<unknown>) | undefined>
>;

async function runExamples<Api extends ServiceApi>(
  api: Api,
  contract: CallsContract<Api>,
  name: string,
  mode: CallMode,
  service: ServiceOf<Api>,
): Promise<void>;
async function runExamples(
  api: ServiceApi,
  contract: PlainContract,
  name: string,
  mode: CallMode,
  service: PlainMethods,
): Promise<void> {
  const method = api.methods[name];
  const run = service[name];
  const examples = contract.examples[name] ?? [];
  assert.ok(method && run, `${name} is not there`);
  assert.ok(examples.length > 0, `${api.service}.${name} has no example`);
  for (const example of examples) {
    const call = testCall({ idempotencyKey: newUuid() });
    const first = await outcomeOf(() => run(example.input, call));
    check(example, first, method.errors ?? []);
    if (mode === 'local' || !method.isIdempotent) continue;
    const second = await outcomeOf(() => run(example.input, call));
    assert.deepStrictEqual(second, first, `${name} answers otherwise when it is called again with its key`);
  }
}

type Outcome =
  | { readonly output: unknown }
  | { readonly code: string; readonly message: string; readonly details: object };

async function outcomeOf(run: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { output: await run() };
  } catch (error) {
    assert.ok(error instanceof AppError, `something else than an AppError came out: ${String(error)}`);
    if (error.code === 'internal_error') throw error.cause instanceof Error ? error.cause : error;
    return { code: error.code, message: error.publicMessage, details: error.details };
  }
}

function check(example: PlainExample, outcome: Outcome, declared: readonly string[]): void {
  if ('code' in outcome) {
    assert.equal(outcome.code, example.error, outcome.message);
    const known: readonly string[] = [...declared, ...callErrors];
    assert.ok(known.includes(outcome.code), `the method does not declare the error ${outcome.code}`);
    return;
  }
  assert.equal(example.error, undefined, 'the example says that an error comes');
  const { output: expected } = example;
  if (typeof expected === 'function') expected.call(undefined, outcome.output);
  else if ('output' in example) assert.deepStrictEqual(outcome.output, expected);
}
