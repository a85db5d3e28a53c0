/**
 * The Messages API's events as OpenAI's chunks.
 *
 * message_start: the chunk with the role · content_block_start of a tool: a tool call with its id and name ·
 * content_block_delta: text, a piece of a tool's arguments, or thinking (as `reasoning_content`) · message_delta: the
 * chunk with the finish reason · message_stop: the chunk with usage, and `[DONE]` · ping: a comment, so that whoever
 * watches for silence sees life · error: a fault, which takes what came in the same piece of the stream with it. Events and deltas of other types are skipped, as the API's rules on
 * versions demand of its clients. After message_stop everything is.
 */
import { countOf, member, textOf } from '../json-member.ts';
import { createFrameScanner, type FrameScanner, readFrame } from '../sse.ts';
import { finishReasonOf, noUsage, openAiUsage, readUsage, type UsageCounts } from './answer.ts';

interface OpenTool {
  /** Its place among the answer's tool calls, from 0. */
  readonly index: number;
  /** The input as content_block_start gave it; taken where no delta brings any. */
  readonly input: unknown;
  hasArguments: boolean;
}

/** `error` is the event's JSON. */
export type StreamProblem =
  | { readonly problem: 'unreadable'; readonly detail: string }
  | { readonly problem: 'error'; readonly error: unknown };

export interface MessageStream {
  /** The chunks that these bytes complete, as one text, empty where there are none; or what is wrong. */
  translate(bytes: Buffer): string | StreamProblem;
  /** Where the stream stands at its end: `complete` after message_stop, `empty` before message_start. */
  readonly state: 'empty' | 'running' | 'complete';
}

class ChunkWriter implements MessageStream {
  readonly #createdAt: number;
  readonly #scanner: FrameScanner;
  readonly #usage: UsageCounts = noUsage();
  readonly #openTools = new Map<number, OpenTool>();
  #toolCount = 0;
  #out = '';
  /** The beginning that every chunk shares. */
  #prefix = '';
  #problem: StreamProblem | null = null;
  state: MessageStream['state'] = 'empty';

  constructor(createdAt: number) {
    this.#createdAt = createdAt;
    this.#scanner = createFrameScanner((buffer, start, end) => this.#frame(buffer, start, end));
  }

  translate(bytes: Buffer): string | StreamProblem {
    this.#out = '';
    const isReadable = this.#scanner.feed(bytes);
    if (this.#problem !== null) return this.#problem;
    return isReadable ? this.#out : { problem: 'unreadable', detail: 'a frame is over 1 MiB' };
  }

  #frame(buffer: Buffer, start: number, end: number): void {
    if (this.#problem !== null || this.state === 'complete') return;
    const { data } = readFrame(buffer, start, end);
    if (data === null) return;
    let event: unknown;
    try {
      event = JSON.parse(data);
    } catch {
      this.#problem = { problem: 'unreadable', detail: 'a frame holds no JSON' };
      return;
    }
    this.#event(textOf(event, 'type'), event);
  }

  #event(type: string | null, event: unknown): void {
    if (type === 'error') this.#problem = { problem: 'error', error: event };
    else if (type === 'ping') this.#out += ': ping\n\n';
    else if (type === 'message_start') this.#messageStart(member(event, 'message'));
    else if (this.state === 'running') this.#runningEvent(type, event);
  }

  #runningEvent(type: string | null, event: unknown): void {
    if (type === 'content_block_start') this.#blockStart(event);
    else if (type === 'content_block_delta') this.#blockDelta(event);
    else if (type === 'content_block_stop') this.#blockStop(countOf(event, 'index') ?? -1);
    else if (type === 'message_delta') this.#messageDelta(event);
    else if (type === 'message_stop') this.#messageStop();
  }

  #messageStart(message: unknown): void {
    this.state = 'running';
    readUsage(this.#usage, member(message, 'usage'));
    const head = {
      id: textOf(message, 'id') ?? '',
      object: 'chat.completion.chunk',
      created: this.#createdAt,
      model: textOf(message, 'model') ?? '',
    };
    this.#prefix = `data: ${JSON.stringify(head).slice(0, -1)},"choices":`;
    this.#delta({ role: 'assistant', content: '' });
  }

  #blockStart(event: unknown): void {
    const block = member(event, 'content_block');
    const type = textOf(block, 'type');
    if (type === 'text') {
      const text = textOf(block, 'text') ?? '';
      if (text !== '') this.#delta({ content: text });
      return;
    }
    if (type !== 'tool_use') return;
    const tool = { index: this.#toolCount, input: member(block, 'input'), hasArguments: false };
    this.#toolCount += 1;
    this.#openTools.set(countOf(event, 'index') ?? -1, tool);
    const called = { name: textOf(block, 'name') ?? '', arguments: '' };
    this.#delta({
      tool_calls: [{ index: tool.index, id: textOf(block, 'id') ?? '', type: 'function', function: called }],
    });
  }

  #blockDelta(event: unknown): void {
    const delta = member(event, 'delta');
    const type = textOf(delta, 'type');
    if (type === 'text_delta') this.#delta({ content: textOf(delta, 'text') ?? '' });
    else if (type === 'thinking_delta') this.#delta({ reasoning_content: textOf(delta, 'thinking') ?? '' });
    else if (type === 'input_json_delta') {
      const tool = this.#openTools.get(countOf(event, 'index') ?? -1);
      const piece = textOf(delta, 'partial_json') ?? '';
      if (tool !== undefined && piece !== '') this.#arguments(tool, piece);
    }
  }

  /** A tool without parameters gets no delta; its arguments must still be a JSON object. */
  #blockStop(index: number): void {
    const tool = this.#openTools.get(index);
    if (tool === undefined) return;
    this.#openTools.delete(index);
    if (!tool.hasArguments) this.#arguments(tool, JSON.stringify(tool.input ?? {}));
  }

  #arguments(tool: OpenTool, piece: string): void {
    tool.hasArguments = true;
    this.#delta({ tool_calls: [{ index: tool.index, function: { arguments: piece } }] });
  }

  #messageDelta(event: unknown): void {
    readUsage(this.#usage, member(event, 'usage'));
    const stopReason = textOf(member(event, 'delta'), 'stop_reason');
    if (stopReason !== null) this.#choice('{}', JSON.stringify(finishReasonOf(stopReason)));
  }

  #messageStop(): void {
    this.state = 'complete';
    this.#out += `${this.#prefix}[],"usage":${JSON.stringify(openAiUsage(this.#usage))}}\n\ndata: [DONE]\n\n`;
  }

  #delta(delta: object): void {
    this.#choice(JSON.stringify(delta), 'null');
  }

  #choice(delta: string, finishReason: string): void {
    this.#out += `${this.#prefix}[{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${finishReason}}]}\n\n`;
  }
}

/** @param createdAt Unix seconds, for every chunk */
export function translateStream(createdAt: number): MessageStream {
  return new ChunkWriter(createdAt);
}
