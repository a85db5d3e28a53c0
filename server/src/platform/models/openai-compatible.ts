/**
 * Any server that speaks OpenAI's protocol. The client's bytes go up and the answer's bytes come down as they are: this
 * adapter only judges heads, error statuses and ends. Whether the JSON of a 200 is well-formed, and whether a stream ends
 * in `[DONE]`, is seen by the gateway, which scans the frames anyway.
 */
import { providerFault } from './fault.ts';
import {
  HttpCall,
  type HttpCallPorts,
  MAX_ANSWER_BYTES,
  prepareConnection,
  type PreparedConnection,
} from './http-call.ts';
import { listOpenAiModels } from './openai-compatible-models.ts';
import type { AnswerSink, ModelCall, ModelExchange, ModelProvider, ProviderConnection } from './types.ts';

const paths = { 'chat.completions': '/chat/completions', embeddings: '/embeddings' } as const;

class OpenAiCall extends HttpCall {
  protected answerData(chunk: Buffer): boolean {
    return this.sink.onData(chunk);
  }

  protected answerEnd(): void {
    this.finish();
  }
}

function prepare(connection: ProviderConnection): PreparedConnection | null {
  const headers = ['content-type', 'application/json', 'user-agent', 'stoa'];
  if (connection.credential !== null) headers.push('authorization', `Bearer ${connection.credential}`);
  return prepareConnection(connection, headers);
}

class OpenAiCompatibleProvider implements ModelProvider {
  readonly kind = 'openai-compatible';
  readonly #ports: HttpCallPorts;
  /** A changed connection is another object, so that nothing here must be told of a change. */
  readonly #prepared = new WeakMap<ProviderConnection, PreparedConnection>();

  constructor(ports: HttpCallPorts) {
    this.#ports = ports;
  }

  call(call: ModelCall, sink: AnswerSink): ModelExchange {
    const exchange = new OpenAiCall(this.#ports, call, sink);
    const prepared = this.#prepare(call.target.provider);
    if (prepared === null) {
      exchange.refuse(providerFault('credential', 'the base URL of the provider is no http or https URL'));
      return exchange;
    }
    const headers = [
      ...prepared.headers,
      'accept',
      call.stream ? 'text/event-stream' : 'application/json',
      'x-client-request-id',
      call.publicRequestId,
    ];
    if (call.traceparent !== '') headers.push('traceparent', call.traceparent);
    exchange.start({
      method: 'POST',
      origin: prepared.origin,
      path: `${prepared.basePath}${paths[call.operation]}${prepared.query}`,
      headers,
      body: call.body,
      maxBodyBytes: call.stream ? 0 : MAX_ANSWER_BYTES,
    });
    return exchange;
  }

  listModels(connection: ProviderConnection, signal: AbortSignal) {
    return listOpenAiModels(this.#ports.outbound, connection, this.#prepare(connection), signal);
  }

  close(): Promise<void> {
    // The outbound client belongs to whoever made it.
    return Promise.resolve();
  }

  #prepare(connection: ProviderConnection): PreparedConnection | null {
    const known = this.#prepared.get(connection);
    if (known !== undefined) return known;
    const prepared = prepare(connection);
    if (prepared !== null) this.#prepared.set(connection, prepared);
    return prepared;
  }
}

/** The provider for any base URL that speaks OpenAI's chat completions and embeddings. Holds nothing that must be closed. */
export function openAiCompatible(ports: HttpCallPorts): ModelProvider {
  return new OpenAiCompatibleProvider(ports);
}
