import type { ModelCall, ModelProvider, ProviderFault } from '../types.ts';

/** What a sink was told of one call; for the tests of the engines in this folder's neighbours. */
export interface Recorded {
  readonly contentType: string | null;
  readonly chunks: readonly Buffer[];
  readonly fault: ProviderFault | null;
}

/** A call of a model with a body, with everything else as the gateway would set it. */
export function chatCall(model: string, body: Readonly<Record<string, unknown>>): ModelCall {
  const json: Record<string, unknown> = { model, ...body };
  return {
    operation: 'chat.completions',
    target: {
      id: model,
      kind: 'chat',
      model,
      provider: {
        id: 'engine',
        kind: 'extractive',
        baseUrl: '',
        credential: null,
        headers: {},
        credentialId: 'engine',
        maxConcurrency: 100,
      },
      isGenerative: false,
      contextTokens: null,
      maxOutputTokens: null,
      deadlines: { wholeMs: 600_000, firstFrameMs: 120_000, betweenFramesMs: 60_000 },
      createdAt: 0,
      ownedBy: 'stoa',
      source: 'built-in',
      priceKey: { provider: null, model },
    },
    body: Buffer.from(JSON.stringify(json)),
    json,
    stream: json['stream'] === true,
    traceparent: '',
    inputTokensEstimate: 7,
    publicRequestId: 'req_00000000000000000000000000',
  };
}

/** Makes a call and waits for its end. Fails where the sink is called in an order that the port forbids. */
export function collect(
  provider: ModelProvider,
  call: ModelCall,
  options: { readonly cancelAfterChunks?: number; readonly pauseAfterEachChunk?: boolean } = {},
): Promise<Recorded> {
  return new Promise((resolve, reject) => {
    let contentType: string | null = null;
    const chunks: Buffer[] = [];
    let isOver = false;
    let isPaused = false;
    const wrong = (what: string): void => reject(new Error(`the sink was told ${what}`));
    const end = (fault: ProviderFault | null): void => {
      if (isOver) wrong('two ends');
      isOver = true;
      resolve({ contentType, chunks, fault });
    };
    const exchange = provider.call(call, {
      onHead(head) {
        if (contentType !== null || isOver) wrong('a head out of order');
        ({ contentType } = head);
      },
      onData(chunk) {
        if (contentType === null || isOver) wrong('data out of order');
        if (isPaused) wrong('data while it had asked for a pause');
        chunks.push(chunk);
        if (options.cancelAfterChunks === chunks.length) exchange.cancel();
        if (!options.pauseAfterEachChunk) return true;
        isPaused = true;
        // Some turns later, so that an engine which only skips a turn is caught.
        setTimeout(() => {
          isPaused = false;
          exchange.resume();
        }, 2);
        return false;
      },
      onEnd: () => end(null),
      onFault: end,
    });
  });
}

/** A member of a recorded body, a frame's text or a value, by its path; undefined where there is none. */
export function json(source: unknown, ...path: readonly (string | number)[]): unknown {
  let value: unknown = source;
  if (isRecorded(source)) value = JSON.parse(Buffer.concat([...source.chunks]).toString('utf8'));
  else if (typeof source === 'string') value = JSON.parse(source);
  for (const part of path) value = Reflect.get(Object(value), part);
  return value;
}

function isRecorded(source: unknown): source is Recorded {
  return typeof source === 'object' && source !== null && 'chunks' in source;
}

/** The frames of a recorded stream, and the text of their deltas. */
export function streamedText(recorded: Recorded): {
  readonly text: string;
  readonly frames: readonly string[];
} {
  const frames = Buffer.concat([...recorded.chunks])
    .toString('utf8')
    .split('\n\n')
    .filter((frame) => frame !== '')
    .map((frame) => frame.replace(/^data: /, ''));
  const text = frames
    .filter((frame) => frame !== '[DONE]')
    .map((frame) => json(frame, 'choices', 0, 'delta', 'content'))
    .filter((content) => typeof content === 'string')
    .join('');
  return { text, frames };
}
