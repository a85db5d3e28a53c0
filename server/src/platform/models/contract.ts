/**
 * What every provider promises, as a suite that each adapter's test runs: order and number of the sink's calls, the wire
 * format of answers and streams, cancellation, backpressure.
 */
import { deepEqual, equal, ok } from 'node:assert/strict';
import { test } from 'node:test';
import { isList, listOf, member, textOf } from './json-member.ts';
import { createFrameScanner, frameShape, readFrame } from './sse.ts';
import type {
  AnswerSink,
  ModelCall,
  ModelExchange,
  ModelProvider,
  ProviderConnection,
  ProviderFault,
  ProviderKind,
  Target,
} from './types.ts';

/** Everything a sink heard, in order, and a way to wait for it. */
export interface RecordedAnswer {
  readonly exchange: ModelExchange;
  /** `head`, `data`, `end` and `fault` in the order they came. */
  readonly events: readonly string[];
  readonly head: {
    readonly status: number;
    readonly contentType: string;
    readonly providerRequestId: string | null;
  } | null;
  readonly fault: ProviderFault | null;
  readonly body: Buffer;
  /** True where the sink heard anything before `call` returned. */
  readonly wasSynchronous: boolean;
  /** Resolves at the first end or fault. */
  readonly ended: Promise<void>;
}

export interface RecordingOptions {
  /** Answers false to every chunk from the one that brings the body to this many bytes. */
  readonly pauseAtBytes?: number;
  onData?(answer: RecordedAnswer): void;
}

/** Calls a provider and records what its sink hears. */
export function recordAnswer(
  provider: ModelProvider,
  call: ModelCall,
  options: RecordingOptions = {},
): RecordedAnswer {
  const ended = Promise.withResolvers<void>();
  const events: string[] = [];
  const chunks: Buffer[] = [];
  let bytes = 0;
  let head: RecordedAnswer['head'] = null;
  let fault: ProviderFault | null = null;
  let hasReturned = false;
  let wasSynchronous = false;
  const note = (event: string): void => {
    if (!hasReturned) wasSynchronous = true;
    if (event !== 'data' || events.at(-1) !== 'data') events.push(event);
  };
  const sink: AnswerSink = {
    onHead(given) {
      head = given;
      note('head');
    },
    onData(chunk) {
      note('data');
      chunks.push(chunk);
      bytes += chunk.length;
      options.onData?.(answer);
      return options.pauseAtBytes === undefined || bytes < options.pauseAtBytes;
    },
    onEnd() {
      note('end');
      ended.resolve();
    },
    onFault(given) {
      fault = given;
      note('fault');
      ended.resolve();
    },
  };
  const exchange = provider.call(call, sink);
  hasReturned = true;
  const answer: RecordedAnswer = {
    exchange,
    events,
    get head() {
      return head;
    },
    get fault() {
      return fault;
    },
    get body() {
      return Buffer.concat(chunks);
    },
    wasSynchronous,
    ended: ended.promise,
  };
  return answer;
}

/** Waits until a condition holds; throws after two seconds, naming it. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 2_000;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`waited 2 s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Lets everything that is due now happen: microtasks and one turn of the event loop. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
}

export interface ContractConnection {
  readonly kind: ProviderKind;
  readonly baseUrl: string;
  readonly credential?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A target for tests; the model's name chooses how a test server behaves. */
export function contractTarget(model: string, connection: ContractConnection): Target {
  const provider: ProviderConnection = {
    id: 'prov_test',
    kind: connection.kind,
    baseUrl: connection.baseUrl,
    credential: connection.credential ?? null,
    headers: connection.headers ?? {},
    credentialId: 'cred_test',
    maxConcurrency: 64,
  };
  return {
    id: model,
    kind: 'chat',
    model,
    provider,
    isGenerative: true,
    contextTokens: null,
    maxOutputTokens: null,
    deadlines: { wholeMs: 600_000, firstFrameMs: 120_000, betweenFramesMs: 60_000 },
    createdAt: 0,
    ownedBy: 'test',
    source: 'built-in',
    priceKey: { provider: null, model },
  };
}

/** A chat call as the gateway builds it: the model's name and `include_usage` are set already. */
export function contractCall(
  target: Target,
  stream: boolean,
  fields: Readonly<Record<string, unknown>> = {},
): ModelCall {
  const json = {
    model: target.model,
    messages: [{ role: 'user', content: 'How are tenants isolated?' }],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...fields,
  };
  return {
    operation: 'chat.completions',
    target,
    body: Buffer.from(JSON.stringify(json)),
    json,
    stream,
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    inputTokensEstimate: 7,
    publicRequestId: 'req_00000000000000000000000000',
  };
}

/** The frames of a recorded stream: each one's data and shape. */
export function readFrames(body: Buffer): { readonly shape: string; readonly data: string }[] {
  const frames: { shape: string; data: string }[] = [];
  const scanner = createFrameScanner((buffer, start, end, _next, lineCount) => {
    const shape = frameShape(buffer, start, end, lineCount);
    if (shape !== 'quiet') frames.push({ shape, data: readFrame(buffer, start, end).data ?? '' });
  });
  scanner.feed(body);
  equal(scanner.pendingBytes, 0, 'the stream ends with a whole frame');
  return frames;
}

/** What a provider under test offers. A part that an engine has no way to show is null. */
export interface ContractSubject {
  readonly provider: ModelProvider;
  /** A call that is answered well. */
  answered(stream: boolean): ModelCall;
  /** A streamed call whose upstream writes for as long as it is read, and how that upstream fares. */
  readonly endless: {
    call(): ModelCall;
    /** True where the upstream of the last call was hung up on. */
    isAborted(): boolean;
    /** True where the upstream of the last call waits for its reader. */
    isBlocked(): boolean;
  } | null;
  /** Calls that end in a fault, and its kind. */
  readonly faulty: readonly {
    readonly name: string;
    call(): ModelCall;
    readonly kind: ProviderFault['kind'];
  }[];
  close(): Promise<void>;
}

function assertUsage(usage: unknown): void {
  for (const name of ['prompt_tokens', 'completion_tokens', 'total_tokens']) {
    const count = member(usage, name);
    ok(
      typeof count === 'number' && Number.isInteger(count) && count >= 0,
      `usage.${name} is ${String(count)}`,
    );
  }
}

function assertStream(body: Buffer): void {
  const frames = readFrames(body);
  equal(frames.at(-1)?.shape, 'done', 'the last frame is [DONE]');
  const chunks = frames.slice(0, -1).map((frame): unknown => {
    equal(frame.shape, 'object');
    return JSON.parse(frame.data);
  });
  for (const chunk of chunks) {
    equal(member(chunk, 'object'), 'chat.completion.chunk');
    ok(isList(member(chunk, 'choices')));
  }
  const last = chunks.at(-1);
  deepEqual(member(last, 'choices'), [], 'the last chunk tells of usage only');
  assertUsage(member(last, 'usage'));
  const choices = chunks.flatMap((chunk) => listOf(chunk, 'choices'));
  const text = choices.map((choice) => textOf(member(choice, 'delta'), 'content') ?? '').join('');
  ok(text.length > 0, 'the deltas hold text');
  equal(
    choices.filter((choice) => textOf(choice, 'finish_reason') !== null).length,
    1,
    'one choice finishes once',
  );
}

/** Registers the suite. `open` is called once per test, so that tests share nothing. */
export function modelProviderContract(name: string, open: () => Promise<ContractSubject>): void {
  const contractTest = (title: string, body: (subject: ContractSubject) => Promise<void>): void => {
    test(`${name}: ${title}`, { timeout: 20_000 }, async () => {
      const subject = await open();
      try {
        await body(subject);
      } finally {
        await subject.provider.close();
        await subject.close();
      }
    });
  };

  contractTest('a whole answer is one JSON body with text and usage', async ({ provider, answered }) => {
    const answer = recordAnswer(provider, answered(false));
    await answer.ended;
    equal(answer.fault, null);
    deepEqual(answer.events, ['head', 'data', 'end']);
    equal(answer.head?.status, 200);
    equal(answer.head?.contentType, 'application/json');
    equal(answer.wasSynchronous, false);
    const json: unknown = JSON.parse(answer.body.toString('utf8'));
    equal(member(json, 'object'), 'chat.completion');
    const [choice] = listOf(json, 'choices');
    ok((textOf(member(choice, 'message'), 'content') ?? '').length > 0);
    ok(textOf(choice, 'finish_reason') !== null);
    assertUsage(member(json, 'usage'));
  });

  contractTest('a stream ends in its usage and [DONE]', async ({ provider, answered }) => {
    const answer = recordAnswer(provider, answered(true));
    await answer.ended;
    equal(answer.fault, null);
    deepEqual(answer.events, ['head', 'data', 'end']);
    equal(answer.head?.contentType, 'text/event-stream');
    equal(answer.wasSynchronous, false);
    assertStream(answer.body);
  });

  contractTest(
    'a stream paused at every chunk and resumed is the same stream',
    async ({ provider, answered }) => {
      const answer = recordAnswer(provider, answered(true), {
        pauseAtBytes: 0,
        onData: (running) => setImmediate(() => running.exchange.resume()),
      });
      await answer.ended;
      equal(answer.fault, null);
      assertStream(answer.body);
    },
  );

  contractTest(
    'a call cancelled at once ends as cancelled, once and never synchronously',
    async (subject) => {
      const answer = recordAnswer(subject.provider, subject.answered(true));
      answer.exchange.cancel();
      answer.exchange.cancel();
      deepEqual(answer.events, []);
      await answer.ended;
      await settle();
      deepEqual(answer.events, ['fault']);
      equal(answer.fault?.kind, 'cancelled');
    },
  );

  contractTest('cancel and resume after the end change nothing', async ({ provider, answered }) => {
    const answer = recordAnswer(provider, answered(false));
    await answer.ended;
    answer.exchange.cancel();
    answer.exchange.resume();
    await settle();
    deepEqual(answer.events, ['head', 'data', 'end']);
  });

  contractTest(
    'cancelling a running stream ends it upstream within two seconds',
    async ({ provider, endless }) => {
      if (endless === null) return;
      const answer = recordAnswer(provider, endless.call(), {
        onData: (running) => running.exchange.cancel(),
      });
      await answer.ended;
      equal(answer.fault?.kind, 'cancelled');
      await until(() => endless.isAborted(), 'the upstream to be hung up on');
      await settle();
      deepEqual(answer.events, ['head', 'data', 'fault']);
    },
  );

  contractTest(
    'a paused stream holds a bounded amount and goes on when resumed',
    async ({ provider, endless }) => {
      if (endless === null) return;
      const answer = recordAnswer(provider, endless.call(), { pauseAtBytes: 1 });
      await until(() => answer.events.includes('data'), 'the first data');
      await until(() => endless.isBlocked(), 'the upstream to be blocked');
      await settle();
      const heldBytes = answer.body.length;
      // One read of the socket may be in flight when the pause is asked for; a translation may widen it.
      ok(heldBytes <= 512 * 1024, `${heldBytes} bytes came after the pause`);
      answer.exchange.resume();
      await until(() => answer.body.length > heldBytes, 'more data after resume');
      answer.exchange.cancel();
      await answer.ended;
    },
  );

  contractTest(
    'each fault is told once, after the call returned, with its kind',
    async ({ provider, faulty }) => {
      for (const { name: faultName, call, kind } of faulty) {
        const answer = recordAnswer(provider, call());
        await answer.ended;
        await settle();
        equal(answer.fault?.kind, kind, `${faultName}: ${answer.fault?.detail ?? 'no fault'}`);
        equal(answer.events.filter((event) => event === 'fault' || event === 'end').length, 1, faultName);
        equal(answer.events.at(-1), 'fault', faultName);
        equal(answer.wasSynchronous, false, faultName);
        ok((answer.fault?.detail.length ?? 0) <= 500);
      }
    },
  );
}
