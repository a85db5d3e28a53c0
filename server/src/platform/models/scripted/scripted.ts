import type { Clock } from '#kernel';
import { faultOfStatus } from '../fault.ts';
import {
  chatFrames,
  type ChatFrames,
  estimateTokens,
  isRecord,
  lastUserText,
} from '../in-process/chat-frames.ts';
import {
  type Answering,
  ScriptFault,
  startExchange,
  type StartTimer,
  systemTimer,
} from '../in-process/exchange.ts';
import type { ModelCall, ModelProvider } from '../types.ts';
import { chanceOf, type Chance, drawDelay, unitVector } from './chance.ts';
import { loadScript, patternOf, type Script, type ScriptRule } from './script.ts';

/**
 * The provider that plays a script, for tests and demonstrations: the first rule that matches the model and the last
 * user message answers, with its delays and its faults, as a provider over the network would. What is random is drawn
 * from the script's seed, the rule and how often the rule was used, so a run can be repeated.
 */
export interface ScriptedDeps {
  readonly clock: Clock;
  /** Default: setTimeout. */
  readonly startTimer?: StartTimer;
}

interface ActiveRule {
  readonly rule: ScriptRule;
  readonly index: number;
  readonly matchesText: (message: string) => boolean;
  calls: number;
}

/** What one call answers, before any of it is sent. */
interface Play {
  readonly rule: ScriptRule;
  readonly chance: Chance;
  readonly message: string;
}

const fallback: ScriptRule = { when: {}, latency: {}, reply: 'No rule of the script matches this message.' };

export interface ScriptedProvider extends ModelProvider {
  /** The models of the script, for the registry. */
  readonly models: Script['models'];
}

/** Reads the script and makes its provider. Rejects with `invalid_configuration` that lists all faults of the file. */
export async function scripted(
  deps: ScriptedDeps,
  settings: { readonly file: string },
): Promise<ScriptedProvider> {
  return playScript(deps, await loadScript(settings.file));
}

/** The provider of a script that is in memory. */
export function playScript(deps: ScriptedDeps, script: Script): ScriptedProvider {
  const rules = script.rules.map((rule, index): ActiveRule => {
    const matchesText = (rule.when.text === undefined ? null : patternOf(rule.when.text)) ?? (() => true);
    return { rule, index, matchesText, calls: 0 };
  });
  const choose = (model: string, message: string): Play => {
    for (const active of rules) {
      const { rule } = active;
      if (rule.when.model !== undefined && rule.when.model !== model) continue;
      if (rule.times !== undefined && active.calls >= rule.times) continue;
      if (!active.matchesText(message)) continue;
      active.calls++;
      return { rule, message, chance: chanceOf(`${script.seed} rule ${active.index} call ${active.calls}`) };
    }
    return { rule: fallback, message, chance: chanceOf(String(script.seed)) };
  };

  return {
    kind: 'scripted',
    models: script.models,
    call(call, sink) {
      const message = call.operation === 'embeddings' ? inputTexts(call).join('\n') : lastUserText(call.json);
      const play = choose(call.target.model, message);
      return startExchange(sink, deps.startTimer ?? systemTimer, (answering) =>
        perform(call, play, answering, script, deps.clock),
      );
    },
    close: async () => undefined,
  };
}

async function perform(
  call: ModelCall,
  play: Play,
  answering: Answering,
  script: Script,
  clock: Clock,
): Promise<void> {
  const { rule } = play;
  if (rule.latency.first_byte) await answering.wait(drawDelay(rule.latency.first_byte, play.chance));
  refuse(call, rule, clock);
  if (rule.raw) {
    const expected = call.stream ? 'text/event-stream' : 'application/json';
    const contentType = rule.raw.content_type ?? expected;
    if (contentType !== expected) {
      const detail = `content-type ${contentType} where ${expected} was asked for`;
      throw new ScriptFault({ kind: 'unreadable', status: 200, detail });
    }
    await send(
      rule.raw.chunks.map((text) => Buffer.from(text)),
      contentType,
      play,
      answering,
    );
    return;
  }
  const model = script.models.find((one) => one.id === call.target.model);
  const isEmbedding = call.operation === 'embeddings';
  if (isEmbedding !== (model?.kind === 'embedding')) {
    const message = `This model answers no ${isEmbedding ? 'embeddings' : 'chats'}.`;
    const rejection = { code: null, param: 'model', message };
    throw new ScriptFault({ kind: 'rejected', status: 400, detail: message, rejection });
  }
  if (isEmbedding) {
    const body = embeddingBody(call, script.seed, model?.dimensions ?? 1);
    await send(inPieces(body, rule), 'application/json', play, answering);
  } else if (call.stream) {
    await send(streamFrames(call, play, clock.now()), 'text/event-stream', play, answering);
  } else {
    await send(inPieces(wholeBody(call, play, clock.now()), rule), 'application/json', play, answering);
  }
}

/** The faults that come instead of an answer, as the adapter of a provider over HTTP would tell them. */
function refuse(call: ModelCall, rule: ScriptRule, clock: Clock): void {
  if (rule.unreachable)
    throw new ScriptFault({ kind: 'unreachable', detail: 'the script refuses the connection' });
  if (rule.empty) throw new ScriptFault({ kind: 'empty', status: 200, detail: 'HTTP 200 without a body' });
  const answer = rule.throttle
    ? { status: 429, headers: retryAfter(rule.throttle.retry_after), body: '' }
    : rule.error && {
        status: rule.error.status,
        headers: lowerCased(rule.error.headers),
        body: typeof rule.error.body === 'string' ? rule.error.body : JSON.stringify(rule.error.body),
      };
  if (!answer) return;
  throw new ScriptFault(faultOfStatus({ ...answer, connection: call.target.provider, nowMs: clock.now() }));
}

function retryAfter(seconds: number | undefined): Record<string, string> {
  return seconds === undefined ? {} : { 'retry-after-ms': String(Math.round(seconds * 1000)) };
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

async function send(
  chunks: readonly Buffer[],
  contentType: string,
  { rule, chance }: Play,
  answering: Answering,
): Promise<void> {
  const breakOff = async (sent: number): Promise<void> => {
    if (rule.stall?.after_chunks === sent) await answering.waitForever();
    if (rule.cut?.after_chunks === sent)
      throw new ScriptFault({ kind: 'cut', detail: 'the script cuts the answer' });
  };
  await breakOff(0);
  answering.head(contentType);
  for (const [index, chunk] of chunks.entries()) {
    if (index > 0) {
      await breakOff(index);
      if (rule.latency.between_chunks) await answering.wait(drawDelay(rule.latency.between_chunks, chance));
    }
    await answering.data(chunk);
  }
  // Counts past the end of a short answer: it breaks off where it would have ended.
  const sent = Math.max(rule.stall?.after_chunks ?? 0, rule.cut?.after_chunks ?? 0);
  if (sent >= chunks.length) await breakOff(sent);
}

/** A body in one piece has four chunks where the script breaks it off, so that it can break in the middle. */
function inPieces(body: Buffer, rule: ScriptRule): Buffer[] {
  if (!rule.stall && !rule.cut && !rule.latency.between_chunks) return [body];
  const size = Math.ceil(body.length / 4);
  return [0, 1, 2, 3]
    .map((piece) => body.subarray(piece * size, (piece + 1) * size))
    .filter((one) => one.length > 0);
}

function replyChunks({ rule, message }: Play): string[] {
  if (rule.reply === undefined) return rule.tool_calls ? [] : ['ok'];
  const filled = (text: string): string => text.replaceAll('{{last_user_message}}', () => message);
  if (Array.isArray(rule.reply)) return rule.reply.map(filled);
  return filled(rule.reply).match(/\s*\S+\s*/g) ?? [];
}

function toolCalls({ rule, chance }: Play) {
  return rule.tool_calls?.map((tool, index) => ({
    index,
    id: `call_${Math.floor(chance() * 2 ** 32)
      .toString(16)
      .padStart(8, '0')}`,
    type: 'function',
    function: {
      name: tool.name,
      arguments: typeof tool.arguments === 'string' ? tool.arguments : JSON.stringify(tool.arguments),
    },
  }));
}

/** Null where the rule says that the provider sends no usage. */
function usageOf(call: ModelCall, rule: ScriptRule, answerBytes: number): object | null {
  if (rule.tokens === 'omit') return null;
  const input = rule.tokens?.input ?? call.inputTokensEstimate;
  const output = rule.tokens?.output ?? estimateTokens(answerBytes);
  const cached = rule.tokens?.cached_input;
  const reasoning = rule.tokens?.reasoning;
  return {
    prompt_tokens: input,
    completion_tokens: output,
    total_tokens: input + output,
    ...(cached === undefined ? {} : { prompt_tokens_details: { cached_tokens: cached } }),
    ...(reasoning === undefined ? {} : { completion_tokens_details: { reasoning_tokens: reasoning } }),
  };
}

function streamFrames(call: ModelCall, play: Play, nowMs: number): Buffer[] {
  const frames: ChatFrames = chatFrames(call.target.model, nowMs);
  const chunks = replyChunks(play);
  const tools = toolCalls(play) ?? [];
  const toolFrames = tools.flatMap((tool) => [
    frames.delta({ tool_calls: [{ ...tool, function: { name: tool.function.name, arguments: '' } }] }),
    frames.delta({ tool_calls: [{ index: tool.index, function: { arguments: tool.function.arguments } }] }),
  ]);
  const usage = usageOf(call, play.rule, Buffer.byteLength(chunks.join('') + JSON.stringify(tools)));
  const body = [frames.role(), ...chunks.map((text) => frames.content(text)), ...toolFrames];
  if (play.rule.no_end) return body;
  return [
    ...body,
    frames.finish(tools.length > 0 ? 'tool_calls' : 'stop'),
    ...(usage === null ? [] : [frames.usage(usage)]),
    frames.done(),
  ];
}

function wholeBody(call: ModelCall, play: Play, nowMs: number): Buffer {
  const text = replyChunks(play).join('');
  const tools = toolCalls(play)?.map(({ id, type, function: called }) => ({ id, type, function: called }));
  const message = { content: tools && text === '' ? null : text, ...(tools ? { tool_calls: tools } : {}) };
  const usage = usageOf(call, play.rule, Buffer.byteLength(JSON.stringify(message)));
  return chatFrames(call.target.model, nowMs).whole(message, tools ? 'tool_calls' : 'stop', usage);
}

/** The texts to embed; token lists count as the text of their numbers. */
function inputTexts(call: ModelCall): string[] {
  const input: unknown = call.json['input'];
  if (!Array.isArray(input)) return [typeof input === 'string' ? input : JSON.stringify(input ?? '')];
  const items: readonly unknown[] = input;
  if (items.every((item) => typeof item === 'number')) return [JSON.stringify(items)];
  return items.map((item) => (typeof item === 'string' ? item : JSON.stringify(item)));
}

function embeddingBody(call: ModelCall, seed: Script['seed'], ofModel: number): Buffer {
  const texts = inputTexts(call);
  const asked: unknown = isRecord(call.json) ? call.json['dimensions'] : undefined;
  const dimensions = typeof asked === 'number' && asked >= 1 && asked <= 8192 ? Math.floor(asked) : ofModel;
  const tokens = texts.reduce((sum, text) => sum + estimateTokens(Buffer.byteLength(text)), 0);
  return Buffer.from(
    JSON.stringify({
      object: 'list',
      model: call.target.model,
      data: texts.map((text, index) => ({
        object: 'embedding',
        index,
        embedding: unitVector(`${seed} ${call.target.model} ${text}`, dimensions),
      })),
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    }),
  );
}
