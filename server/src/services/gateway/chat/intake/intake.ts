import type { ModelOperation, Target } from '#models';
import { type Splice, spliceBody } from './body-splice.ts';
import type { JsonObject } from './fields.ts';
import { type Member, nameSet, type ScannedObject, scanObject } from './member-scan.ts';

/** What Stoa read of one request's body. Only the fields that it acts on are checked; the rest is the provider's matter. */
export interface Intake {
  readonly operation: ModelOperation;
  readonly body: Buffer;
  /** The same body parsed; read-only. */
  readonly json: JsonObject;
  readonly scan: ScannedObject;
  /** A target's id, or `auto`. */
  readonly model: string;
  readonly stream: boolean;
  /** Whether the client itself asked for the usage frame of a stream. */
  readonly isUsageWanted: boolean;
  /** Output tokens of one choice, null where the client set no limit. */
  readonly outputLimit: number | null;
  /** `n`: how many choices. */
  readonly choices: number;
  readonly endUser: string | null;
  readonly tags: Readonly<Record<string, string>>;
  /** Never less than what a byte-level tokenizer counts. */
  readonly inputTokensBound: number;
  /** The likely number, used where the provider tells none. */
  readonly inputTokensEstimate: number;
  /** Of embeddings: what the client wants; of chat `float`, unused. */
  readonly encodingFormat: 'float' | 'base64';
}

/**
 * The body for one target: the client's own bytes, save that `model` becomes the provider's name of it, a stream asks
 * for usage, and an output limit is added where one must hold.
 * @param addedOutputLimit null leaves the client's own limit, or none, as it is
 */
export function bodyFor(intake: Intake, target: Target, addedOutputLimit: number | null): Buffer {
  const splices: Splice[] = [];
  const additions: string[] = [];
  if (target.model !== intake.model) replaceModel(intake, target, splices);
  if (intake.stream && !intake.isUsageWanted) askForUsage(intake, splices, additions);
  if (addedOutputLimit !== null) limitOutput(intake, target, addedOutputLimit, splices, additions);
  if (additions.length > 0) {
    const at = intake.scan.contentStart;
    splices.push({ start: at, end: at, text: `${additions.join(',')},` });
  }
  return spliceBody(intake.body, splices);
}

function memberOf(intake: Intake, name: string): Member | null {
  return intake.scan.members.find((member) => member.name === name) ?? null;
}

function replaceModel(intake: Intake, target: Target, splices: Splice[]): void {
  const member = memberOf(intake, 'model');
  if (member === null) return;
  splices.push({ start: member.valueStart, end: member.valueEnd, text: JSON.stringify(target.model) });
}

const usageName = nameSet(['include_usage']);

function askForUsage(intake: Intake, splices: Splice[], additions: string[]): void {
  const member = memberOf(intake, 'stream_options');
  if (member === null) {
    additions.push('"stream_options":{"include_usage":true}');
    return;
  }
  const { valueStart, valueEnd } = member;
  const inner = scanObject(intake.body.subarray(valueStart, valueEnd), usageName);
  if (inner === null) {
    splices.push({ start: valueStart, end: valueEnd, text: '{"include_usage":true}' });
    return;
  }
  const [flag] = inner.members;
  if (flag)
    splices.push({ start: valueStart + flag.valueStart, end: valueStart + flag.valueEnd, text: 'true' });
  else {
    const at = valueStart + inner.contentStart;
    splices.push({ start: at, end: at, text: `"include_usage":true${inner.isEmpty ? '' : ','}` });
  }
}

/**
 * OpenAI's own API takes only `max_completion_tokens` for its newer models; the servers that imitate it know
 * `max_tokens` best. Where the client wrote one of them as null, that one is used.
 */
function limitOutput(
  intake: Intake,
  target: Target,
  limit: number,
  splices: Splice[],
  additions: string[],
): void {
  const member = memberOf(intake, 'max_completion_tokens') ?? memberOf(intake, 'max_tokens');
  if (member !== null) {
    splices.push({ start: member.valueStart, end: member.valueEnd, text: String(limit) });
    return;
  }
  const isOpenAi = target.provider.baseUrl.startsWith('https://api.openai.com/');
  additions.push(`"${isOpenAi ? 'max_completion_tokens' : 'max_tokens'}":${limit}`);
}
