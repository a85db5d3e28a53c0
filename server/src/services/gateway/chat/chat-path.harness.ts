import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import type { RequestCompletedV1 } from '@stoa/contracts';
import { createBodyBudget, createHttpServer } from '#http';
import {
  AppError,
  asTenantId,
  type Clock,
  type ManualClock,
  manualClock,
  newUuid,
  silentLogger,
  type TenantPrincipal,
  toAppError,
} from '#kernel';
import {
  type AnswerSink,
  type ModelCall,
  type ModelExchange,
  type ModelProvider,
  type ProviderFault,
  providerFault,
  type Target,
} from '#models';
import type { PricesApi } from '#prices';
import type { QuotasApi } from '#quotas';
import type { MetricRegistry, Tracer } from '#telemetry';
import { type ChatPath, createChatPath } from './chat-path.ts';
import type { Decider, Journal, OpenedEntry, OpenedRequest, Written } from '../types.ts';

/** Test support: the chat path behind the real edge on the loopback, with a provider that a test drives by hand. */
export interface TestTargetOptions {
  readonly id?: string;
  readonly model?: string;
  readonly kind?: Target['kind'];
  readonly providerId?: string;
  readonly providerKind?: Target['provider']['kind'];
  readonly baseUrl?: string;
  readonly maxConcurrency?: number;
  readonly deadlines?: Partial<Target['deadlines']>;
}

export function testTarget(options: TestTargetOptions = {}): Target {
  const id = options.id ?? 'm';
  const providerId = options.providerId ?? 'provider';
  return {
    id,
    kind: options.kind ?? 'chat',
    model: options.model ?? id,
    provider: {
      id: providerId,
      kind: options.providerKind ?? 'openai-compatible',
      baseUrl: options.baseUrl ?? 'http://127.0.0.1:1/v1',
      credential: 'secret',
      headers: {},
      credentialId: `credential of ${providerId}`,
      maxConcurrency: options.maxConcurrency ?? 100,
    },
    isGenerative: true,
    contextTokens: null,
    maxOutputTokens: null,
    deadlines: { wholeMs: 600_000, firstFrameMs: 120_000, betweenFramesMs: 60_000, ...options.deadlines },
    createdAt: 0,
    ownedBy: 'test',
    source: 'settings',
    priceKey: { provider: null, model: id },
  };
}

/** One call of the provider that a test drives. */
export class DrivenCall implements ModelExchange {
  readonly call: ModelCall;
  readonly sink: AnswerSink;
  isCancelled = false;
  resumes = 0;

  constructor(call: ModelCall, sink: AnswerSink) {
    this.call = call;
    this.sink = sink;
  }

  get sentBody(): string {
    return this.call.body.toString();
  }

  cancel(): void {
    if (this.isCancelled) return;
    this.isCancelled = true;
    queueMicrotask(() => this.sink.onFault(providerFault('cancelled', 'cancelled')));
  }

  resume(): void {
    this.resumes += 1;
  }

  head(contentType: string): void {
    this.sink.onHead({ status: 200, contentType, providerRequestId: 'up-1' });
  }

  answer(body: unknown): void {
    this.head('application/json');
    this.sink.onData(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));
    this.sink.onEnd();
  }

  /** Begins a stream where it has not begun, and sends bytes of it. */
  stream(text: string): boolean {
    this.head('text/event-stream');
    return this.sink.onData(Buffer.from(text));
  }

  end(): void {
    this.sink.onEnd();
  }

  fault(kind: ProviderFault['kind'], fields: Partial<ProviderFault> = {}): void {
    this.sink.onFault(providerFault(kind, `a driven fault with an insider: gpu-7`, fields));
  }
}

export class DrivenProvider implements ModelProvider {
  readonly kind = 'openai-compatible';
  readonly calls: DrivenCall[] = [];
  #onCall: (() => void) | null = null;

  call(call: ModelCall, sink: AnswerSink): ModelExchange {
    const driven = new DrivenCall(call, sink);
    this.calls.push(driven);
    this.#onCall?.();
    return driven;
  }

  /** The call of that number, counted from 1, as soon as it is made. */
  async nth(number: number): Promise<DrivenCall> {
    while (this.calls.length < number) {
      await new Promise<void>((resolve) => {
        this.#onCall = resolve;
      });
    }
    const call = this.calls[number - 1];
    assert.ok(call);
    return call;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A journal that remembers. `hold` makes the next settlements wait, as in commit mode. */
export class RememberingJournal implements Journal {
  readonly opened: OpenedEntry[] = [];
  readonly settled: RequestCompletedV1[] = [];
  readonly depth = 0;
  isUnavailable = false;
  hold: Promise<void> | null = null;
  #onSettle: (() => void) | null = null;

  open(entry: OpenedEntry, onWritten: Written): OpenedRequest {
    if (this.isUnavailable) throw new AppError('metering_unavailable', 'Usage cannot be recorded.');
    this.opened.push(entry);
    queueMicrotask(() => onWritten(null));
    return { requestId: entry.requestId };
  }

  settle(record: RequestCompletedV1, _opened: OpenedRequest | null, onWritten: Written): void {
    this.settled.push(record);
    this.#onSettle?.();
    const hold = this.hold ?? Promise.resolve();
    hold.then(
      () => onWritten(null),
      (error: unknown) => onWritten(toAppError(error)),
    );
  }

  /** The record of that number, counted from 1, as soon as it is there. */
  async nth(number: number): Promise<RequestCompletedV1> {
    while (this.settled.length < number) {
      await new Promise<void>((resolve) => {
        this.#onSettle = resolve;
      });
    }
    const record = this.settled[number - 1];
    assert.ok(record);
    return record;
  }

  pending(): null {
    return null;
  }

  pendingOf(): readonly RequestCompletedV1[] {
    return [];
  }
}

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};
const span = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
  setAttribute: () => undefined,
  end: () => undefined,
};
const noTraces: Tracer = { isEnabled: false, startRequest: () => span, startChild: () => span };

/** One femto-dollar for an input token, a thousand for an output token. */
const testPrices: PricesApi = {
  isPriced: ({ id }) => !id.startsWith('unpriced'),
  rate: ({ id }, usage) =>
    id.startsWith('unpriced')
      ? null
      : {
          costFemto: BigInt(usage.input_tokens) + 1_000n * BigInt(usage.output_tokens),
          chargeFemto: BigInt(usage.input_tokens) + 1_000n * BigInt(usage.output_tokens),
          priceVersion: 'test-1',
          price: { hash: '0123456789abcdef', tier: 'standard', unit: 'token' },
        },
  upperBound: (_target, input, output) => BigInt(input) + 1_000n * BigInt(output),
  describe: () => null,
};

export const grantingQuotas: QuotasApi = {
  reserve: ({ costFemto }) => ({
    isGranted: true,
    reservedFemto: costFemto,
    rateLimit: null,
    settle: () => undefined,
  }),
  hasHardBudget: () => false,
  outputCap: () => 4_096,
};

/** `auto` takes the first healthy target, as the router's does for now. */
const firstHealthy: Decider = {
  decide({ requestedModel, candidates, isHealthy }) {
    const target = candidates.find(isHealthy) ?? candidates[0];
    if (target === undefined) return null;
    const fallbacks = requestedModel === 'auto' ? candidates.filter((other) => other !== target) : [];
    return {
      target,
      probability: 1,
      reason: requestedModel === 'auto' ? 'first_healthy' : 'named',
      fallbacks,
    };
  },
};

export interface ChatServerOptions {
  readonly targets?: readonly Target[];
  /** What `refresh` finds: models that turn up later. */
  readonly later?: readonly Target[];
  readonly isAllowed?: (target: Target) => boolean;
  readonly provider?: ModelProvider;
  readonly quotas?: QuotasApi;
  readonly clock?: Clock;
  readonly tracer?: Tracer;
}

export interface ChatServer {
  readonly url: string;
  readonly chat: ChatPath;
  readonly journal: RememberingJournal;
  readonly principal: TenantPrincipal;
  close(): Promise<void>;
}

/** One key of a tenant, with a project and a tag. */
function newPrincipal(): TenantPrincipal {
  return {
    kind: 'tenant',
    tenantId: asTenantId(newUuid()),
    keyId: '00abcdefghij',
    role: 'developer',
    scopes: null,
    projectId: 'project',
    tags: { from: 'key' },
    standing: { refusal: null },
  };
}

function chatPathOf(options: ChatServerOptions, journal: Journal): ChatPath {
  const targets = options.targets ?? [testTarget()];
  const byId = new Map(targets.map((target) => [target.id, target]));
  const isAllowed = options.isAllowed ?? (() => true);
  const chatOrder = targets.filter((target) => target.kind === 'chat' && isAllowed(target));
  return createChatPath({
    clock: options.clock ?? manualClock(),
    logger: silentLogger,
    tracer: options.tracer ?? noTraces,
    metrics: noMetrics,
    providers: new Map([['openai-compatible', options.provider ?? new DrivenProvider()]]),
    registry: {
      snapshot: () => ({ version: 1, byId, chatOrder: targets }),
      refresh: (id) => Promise.resolve(options.later?.find((target) => target.id === id) ?? null),
      policyFor: () => ({ chatOrder, isAllowed }),
    },
    prices: testPrices,
    quotas: options.quotas ?? grantingQuotas,
    decider: firstHealthy,
    journal,
    random: () => 0.5,
  });
}

export async function openChatServer(options: ChatServerOptions = {}): Promise<ChatServer> {
  const journal = new RememberingJournal();
  const principal = newPrincipal();
  const chat = chatPathOf(options, journal);
  const noOperator = (): never => {
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  };
  const server = createHttpServer(
    {
      authenticator: { tenant: () => principal, operator: noOperator },
      idempotency: { once: (_scope, fn) => fn(async (_tx, reply) => ({ kept: reply })) },
      budget: createBodyBudget(20 * 1024 * 1024, 64 * 1024 * 1024),
      gate: () => null,
      logger: silentLogger,
      accessLog: null,
      metrics: { requests: nothing, seconds: nothing },
    },
    {
      routes: chat.routes,
      headersTimeoutMs: 5_000,
      requestTimeoutMs: 10_000,
      maximumHeaderBytes: 16_384,
      keepAliveTimeoutMs: 5_000,
    },
  );
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    url: `http://127.0.0.1:${port}`,
    chat,
    journal,
    principal,
    async close() {
      await chat.drain(0);
      chat.sweep.stop();
      const drained = server.drain();
      server.destroy();
      await drained;
    },
  };
}

/** A client that shows what reaches it while it arrives. */
export interface ClientAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** What came so far. */
  text(): string;
  /** Resolves when the text so far holds this. */
  until(part: string): Promise<string>;
  /** The whole body, once the server ended it; rejects where the connection was cut. */
  readonly whole: Promise<string>;
  /** Hangs up. */
  hangUp(): void;
  /** Stops reading from the socket. */
  pause(): void;
  unpause(): void;
}

export function post(
  url: string,
  path: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<ClientAnswer> {
  const bytes = Buffer.isBuffer(body)
    ? body
    : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
  return new Promise((resolve, reject) => {
    const request = httpRequest(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': bytes.length, ...headers },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      let text = '';
      const waiting = new Set<() => void>();
      const whole = new Promise<string>((resolveWhole, rejectWhole) => {
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
          for (const check of waiting) check();
        });
        response.on('end', () => resolveWhole(text));
        response.on('error', rejectWhole);
      });
      whole.catch(() => undefined);
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        text: () => text,
        until: (part) =>
          new Promise((found) => {
            const check = (): void => {
              if (!text.includes(part)) return;
              waiting.delete(check);
              found(text);
            };
            waiting.add(check);
            check();
          }),
        whole,
        hangUp: () => request.destroy(),
        pause: () => response.pause(),
        unpause: () => response.resume(),
      });
    });
    request.end(bytes);
  });
}

/** A request whose client hangs up before any answer. */
export function hangingPost(url: string, path: string, body: unknown): { hangUp(): void } {
  const text = JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  const request = httpRequest(`${url}${path}`, { method: 'POST', headers });
  request.on('error', () => undefined);
  request.end(text);
  return { hangUp: () => request.destroy() };
}

export const completion = {
  id: 'chatcmpl-1',
  object: 'chat.completion',
  created: 1,
  model: 'm',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hello' }, finish_reason: 'stop' }],
  usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 },
};

/** A frame of content. */
export function frame(content: string): string {
  const choice = { index: 0, delta: { content }, finish_reason: null };
  return `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [choice] })}\n\n`;
}

export const usageFrame =
  'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}\n\n';
export const doneFrame = 'data: [DONE]\n\n';

/** Moves the clock and lets the sweep look. */
export function pass(chat: ChatPath, clock: ManualClock, ms: number): void {
  clock.advance(ms);
  chat.sweep.tick();
}
