import { isJsonObject } from './fields.ts';
import { nameSet, type ScannedObject } from './member-scan.ts';

/**
 * How many input tokens a request has, without a tokenizer: counting on the event loop blocks it for seconds on hostile
 * text. A byte-level tokenizer never makes more tokens than bytes, and on common text about one of four bytes.
 * What is no text is bounded per part, by the dearest way in which a known provider counts it; a part's own bytes, where
 * they are inside the body, are not counted again.
 */
export interface InputTokens {
  readonly bound: number;
  readonly estimate: number;
}

export interface MediaTokens {
  /** Bytes of the body that are data of media parts. */
  inlineBytes: number;
  bound: number;
  estimate: number;
}

/** GPT-4o mini counts 2,833 tokens and 5,667 for each of up to eight tiles: the most of any provider known. */
const imageBound = 48_169;
const imageEstimate = 1_000;
/** An hour of speech at ten tokens a second. */
const audioBound = 36_000;
const audioEstimate = 600;
/** A document of a hundred pages, each as text and as an image. */
const fileBound = 400_000;
const fileEstimate = 5_000;

const bytesPerToken = 4;

const likelyRead = nameSet(['messages', 'input', 'tools']);

export function noMedia(): MediaTokens {
  return { inlineBytes: 0, bound: 0, estimate: 0 };
}

/** Adds the media parts of one message's content. */
export function addMedia(content: unknown, media: MediaTokens): void {
  if (!Array.isArray(content)) return;
  const parts: readonly unknown[] = content;
  for (const part of parts) {
    if (!isJsonObject(part)) continue;
    if (part['type'] === 'image_url') addPart(media, part['image_url'], 'url', imageBound, imageEstimate);
    else if (part['type'] === 'input_audio') {
      addPart(media, part['input_audio'], 'data', audioBound, audioEstimate);
    } else if (part['type'] === 'file') addPart(media, part['file'], 'file_data', fileBound, fileEstimate);
  }
}

function addPart(media: MediaTokens, holder: unknown, field: string, bound: number, estimate: number): void {
  media.bound += bound;
  media.estimate += estimate;
  const data = isJsonObject(holder) ? holder[field] : holder;
  if (typeof data === 'string') media.inlineBytes += data.length;
}

/**
 * Both counts of a body of `bodyBytes`. Any member may become input of some provider, so all of them bound it; what is
 * likely to be read are the messages (or the input) and the tools.
 */
export function inputTokens(bodyBytes: number, scan: ScannedObject, media: MediaTokens): InputTokens {
  let readBytes = 0;
  for (const { name, valueStart, valueEnd } of scan.members)
    if (likelyRead.names.has(name)) readBytes += valueEnd - valueStart;
  return {
    bound: Math.max(0, bodyBytes - media.inlineBytes) + media.bound,
    estimate: estimateTokens(Math.max(0, readBytes - media.inlineBytes)) + media.estimate,
  };
}

/** The likely tokens of text of `bytes` bytes. */
export function estimateTokens(bytes: number): number {
  return Math.ceil(bytes / bytesPerToken);
}
