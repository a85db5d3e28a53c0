import type { Clock, Logger } from '#kernel';
import { chatFrames, estimateTokens, lastUserText } from '../in-process/chat-frames.ts';
import { type Answering, ScriptFault, startExchange, systemTimer } from '../in-process/exchange.ts';
import type { ModelCall, ModelProvider } from '../types.ts';
import { answerQuestion, type ExtractiveAnswer } from './answer.ts';
import { readCollection } from './collection.ts';
import { indexSentences, type SentenceIndex } from './ranking.ts';
import { unsupportedIn } from './unsupported.ts';

export interface ExtractiveSettings {
  /** Folder that the names in citations are relative to. */
  readonly root: string;
  /** Markdown files and folders, absolute or relative to `root`. */
  readonly sources: readonly string[];
}

export interface ExtractiveProvider extends ModelProvider {
  /** Reads and indexes the collection, once; later calls share it. Never rejects. The first question does it too. */
  warmUp(): Promise<void>;
  /** The index, once it is there; for tests that check every sentence against its file. */
  index(): Promise<SentenceIndex>;
}

const wordsPerFrame = 4;
const noQuestion =
  'messages: the extractive engine needs a message of role "user" with text in it, its question.';

/**
 * The engine that answers where no generative model is at hand: it quotes sentences of a small collection, says where
 * they stand, and says so where nothing fits. Its answers carry `stoa: { engine, generative: false, citations }`, in the
 * body or in the chunk with the finish reason. Images, sampling parameters and tools that may be left uncalled are passed
 * over; what a quotation can't honour (`n` over 1, JSON, a tool that must be called) is refused.
 */
export function extractive(
  deps: { readonly clock: Clock; readonly logger: Logger },
  settings: ExtractiveSettings,
): ExtractiveProvider {
  let loading: Promise<SentenceIndex> | null = null;

  const load = async (): Promise<SentenceIndex> => {
    const files = await readCollection(settings.root, settings.sources).catch((error: unknown) => {
      deps.logger.warn({ error }, 'the collection of the extractive engine could not be read');
      return [];
    });
    const index = indexSentences(files);
    deps.logger.debug(
      { files: files.length, sentences: index.sentenceCount },
      'the extractive engine is ready',
    );
    return index;
  };
  const index = (): Promise<SentenceIndex> => (loading ??= load());

  return {
    kind: 'extractive',
    index,
    warmUp: async () => {
      await index();
    },
    call: (call, sink) =>
      startExchange(sink, systemTimer, (answering) => say(call, answering, index, deps.clock)),
    close: async () => undefined,
  };
}

/** The script of one answer; bytes leave one frame a turn of the event loop, so that other requests go between. */
async function say(
  call: ModelCall,
  answering: Answering,
  index: () => Promise<SentenceIndex>,
  clock: Clock,
): Promise<void> {
  if (call.operation !== 'chat.completions') {
    const message = 'This model answers chats only; it makes no embeddings.';
    const rejection = { code: null, param: 'model', message };
    throw new ScriptFault({ kind: 'rejected', status: 400, detail: message, rejection });
  }
  const unsupported = unsupportedIn(call.json);
  if (unsupported !== null) {
    const { param, message } = unsupported;
    const rejection = { code: 'unsupported_parameter', param, message };
    throw new ScriptFault({
      kind: 'rejected',
      status: 400,
      detail: `unsupported_parameter ${param}`,
      rejection,
    });
  }
  const question = lastUserText(call.json);
  if (question.trim() === '') {
    const rejection = { code: 'invalid_request', param: 'messages', message: noQuestion };
    throw new ScriptFault({ kind: 'rejected', status: 400, detail: 'no question', rejection });
  }
  const answer = answerQuestion(await index(), question, outputLimit(call.json));
  if (!call.stream) {
    answering.head('application/json');
    await answering.data(wholeBody(call, answer, clock.now()));
    return;
  }
  answering.head('text/event-stream');
  for (const frame of streamFrames(call, answer, clock.now())) await answering.data(frame);
}

function outputLimit(json: Readonly<Record<string, unknown>>): number | null {
  const limit = json['max_completion_tokens'] ?? json['max_tokens'];
  return typeof limit === 'number' && Number.isFinite(limit) && limit >= 1 ? Math.floor(limit) : null;
}

function usageOf(call: ModelCall, answer: ExtractiveAnswer) {
  const input = call.inputTokensEstimate;
  const output = estimateTokens(Buffer.byteLength(answer.text));
  // The engine has no tokenizer, and says so to whoever counts.
  return { prompt_tokens: input, completion_tokens: output, total_tokens: input + output, estimated: true };
}

function marks(answer: ExtractiveAnswer) {
  return { stoa: { engine: 'extractive', generative: false, citations: answer.citations } };
}

function wholeBody(call: ModelCall, answer: ExtractiveAnswer, nowMs: number): Buffer {
  const message = { content: answer.text, refusal: null };
  return chatFrames(call.target.model, nowMs).whole(
    message,
    answer.finishReason,
    usageOf(call, answer),
    marks(answer),
  );
}

function streamFrames(call: ModelCall, answer: ExtractiveAnswer, nowMs: number): Buffer[] {
  const frames = chatFrames(call.target.model, nowMs);
  const words = answer.text.match(/\s*\S+\s*/g) ?? [];
  const pieces: string[] = [];
  for (let at = 0; at < words.length; at += wordsPerFrame)
    pieces.push(words.slice(at, at + wordsPerFrame).join(''));
  return [
    frames.role(),
    ...pieces.map((piece) => frames.content(piece)),
    frames.finish(answer.finishReason, marks(answer)),
    frames.usage(usageOf(call, answer)),
    frames.done(),
  ];
}
