/**
 * Anthropic's Messages API, translated both ways. A request that has no counterpart is refused before anything is sent,
 * as `rejected` with code `unsupported_parameter` (or `invalid_value`) and the parameter.
 */
import { providerFault } from '../fault.ts';
import {
  HttpCall,
  type HttpCallPorts,
  MAX_ANSWER_BYTES,
  prepareConnection,
  type PreparedConnection,
} from '../http-call.ts';
import type {
  AnswerSink,
  ModelCall,
  ModelExchange,
  ModelProvider,
  ProviderConnection,
  ProviderFault,
} from '../types.ts';
import { translateAnswer } from './answer.ts';
import { faultOfErrorEvent, faultOfRefusal } from './fault.ts';
import { listAnthropicModels } from './models.ts';
import { translateRequest } from './request.ts';
import { type MessageStream, translateStream } from './stream.ts';

const VERSION = '2023-06-01';

abstract class MessagesCall extends HttpCall {
  protected readonly createdAt: number;

  constructor(ports: HttpCallPorts, call: ModelCall, sink: AnswerSink) {
    super(ports, call, sink);
    this.createdAt = Math.floor(ports.clock.now() / 1_000);
  }

  protected override refusalFault(fault: ProviderFault, body: string): ProviderFault {
    return faultOfRefusal(fault, body);
  }

  protected failAs(kind: ProviderFault['kind'], detail: string): void {
    this.fail(providerFault(kind, detail, { providerRequestId: this.providerRequestId }));
  }
}

/** An answer in one piece is translated when it is complete. */
class WholeCall extends MessagesCall {
  readonly #chunks: Buffer[] = [];

  protected answerData(chunk: Buffer): boolean {
    this.#chunks.push(chunk);
    return true;
  }

  protected answerEnd(): void {
    let json: unknown;
    try {
      json = JSON.parse(Buffer.concat(this.#chunks).toString('utf8'));
    } catch {
      this.failAs('unreadable', 'the answer is no JSON');
      return;
    }
    const answer = translateAnswer(json, this.createdAt);
    if (answer === null) {
      this.failAs('unreadable', 'the answer is no message');
      return;
    }
    this.sink.onData(Buffer.from(JSON.stringify(answer)));
    this.finish();
  }
}

class StreamCall extends MessagesCall {
  readonly #stream: MessageStream = translateStream(this.createdAt);

  protected answerData(chunk: Buffer): boolean {
    const translated = this.#stream.translate(chunk);
    if (typeof translated === 'string') return translated === '' || this.sink.onData(Buffer.from(translated));
    if (translated.problem === 'unreadable') this.failAs('unreadable', translated.detail);
    else this.fail(faultOfErrorEvent(translated.error, this.call.target.provider, this.providerRequestId));
    return true;
  }

  protected answerEnd(): void {
    if (this.#stream.state === 'complete') this.finish();
    else if (this.#stream.state === 'empty') this.failAs('empty', 'the stream has no message');
    else this.failAs('cut', 'the stream ended before message_stop');
  }
}

class AnthropicProvider implements ModelProvider {
  readonly kind = 'anthropic';
  readonly #ports: HttpCallPorts;
  readonly #prepared = new WeakMap<ProviderConnection, PreparedConnection>();

  constructor(ports: HttpCallPorts) {
    this.#ports = ports;
  }

  call(call: ModelCall, sink: AnswerSink): ModelExchange {
    const exchange = call.stream
      ? new StreamCall(this.#ports, call, sink)
      : new WholeCall(this.#ports, call, sink);
    const refusal = this.#start(exchange, call);
    if (refusal !== null) exchange.refuse(refusal);
    return exchange;
  }

  listModels(connection: ProviderConnection, signal: AbortSignal) {
    return listAnthropicModels(this.#ports.outbound, this.#prepare(connection), signal);
  }

  close(): Promise<void> {
    // The outbound client belongs to whoever made it.
    return Promise.resolve();
  }

  #start(exchange: MessagesCall, call: ModelCall): ProviderFault | null {
    const prepared = this.#prepare(call.target.provider);
    if (prepared === null)
      return providerFault('credential', 'the base URL of the provider is no http or https URL');
    if (call.operation !== 'chat.completions') {
      const rejection = {
        code: 'unsupported_parameter',
        param: 'model',
        message: 'The target has no embeddings.',
      };
      return providerFault('rejected', 'embeddings', { rejection });
    }
    const translation = translateRequest(call.body, call.target, call.stream);
    if (translation.outcome === 'refused') {
      const { code, param, message } = translation;
      return providerFault('rejected', `${code} ${param}`, { rejection: { code, param, message } });
    }
    const headers = [...prepared.headers, 'accept', call.stream ? 'text/event-stream' : 'application/json'];
    if (call.traceparent !== '') headers.push('traceparent', call.traceparent);
    exchange.start({
      method: 'POST',
      origin: prepared.origin,
      path: `${prepared.basePath}/messages${prepared.query}`,
      headers,
      body: translation.body,
      maxBodyBytes: call.stream ? 0 : MAX_ANSWER_BYTES,
    });
    return null;
  }

  #prepare(connection: ProviderConnection): PreparedConnection | null {
    const known = this.#prepared.get(connection);
    if (known !== undefined) return known;
    const headers = ['content-type', 'application/json', 'user-agent', 'stoa', 'anthropic-version', VERSION];
    if (connection.credential !== null) headers.push('x-api-key', connection.credential);
    const prepared = prepareConnection(connection, headers);
    if (prepared !== null) this.#prepared.set(connection, prepared);
    return prepared;
  }
}

/** The provider for Anthropic's Messages API, version 2023-06-01. Holds nothing that must be closed. */
export function anthropic(ports: HttpCallPorts): ModelProvider {
  return new AnthropicProvider(ports);
}
