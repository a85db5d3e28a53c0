import {
  invalid,
  type JsonObject,
  optionalInteger,
  optionalText,
  readTags,
  requiredModel,
} from './fields.ts';
import { inputTokens, noMedia } from './input-bounds.ts';
import type { Intake } from './intake.ts';
import { nameSet } from './member-scan.ts';
import { readObjectBody } from './request-body.ts';

const readNames = nameSet(['model', 'input', 'encoding_format', 'dimensions', 'user', 'metadata']);

/** Most inputs of one request, as with OpenAI. */
const maximumInputs = 2_048;

/**
 * Reads the body of an embeddings request.
 * @throws `invalid_encoding`, `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_text`
 */
export function readEmbeddingsRequest(body: Buffer): Intake {
  const { json, scan } = readObjectBody(body, readNames);
  const model = requiredModel(json);
  checkInput(json['input']);
  optionalInteger(json, 'dimensions', 1);
  const tokens = inputTokens(body.length, scan, noMedia());
  return {
    operation: 'embeddings',
    body,
    json,
    scan,
    model,
    stream: false,
    isUsageWanted: false,
    outputLimit: null,
    choices: 1,
    endUser: optionalText(json, 'user', 512),
    tags: readTags(json),
    inputTokensBound: tokens.bound,
    inputTokensEstimate: tokens.estimate,
    encodingFormat: readEncodingFormat(json),
  };
}

function readEncodingFormat(json: JsonObject): 'float' | 'base64' {
  const value = json['encoding_format'] ?? 'float';
  if (value === 'float' || value === 'base64') return value;
  throw invalid('encoding_format', 'The field "encoding_format" must be "float" or "base64".');
}

/** Text, a list of texts, a list of token numbers, or a list of such lists. */
function checkInput(input: unknown): void {
  if (typeof input === 'string' && input !== '') return;
  if (!Array.isArray(input) || input.length === 0) {
    throw invalid(
      'input',
      'The field "input" must be text, or a list of texts or of token numbers, not empty.',
    );
  }
  const list: readonly unknown[] = input;
  if (isTokenList(list)) return;
  if (list.length > maximumInputs) {
    throw invalid('input', `The field "input" must hold at most ${maximumInputs} inputs.`);
  }
  const first = list[0];
  const isRight = typeof first === 'string' ? isText : isTokens;
  const wrong = list.findIndex((item) => !isRight(item));
  if (wrong !== -1) {
    throw invalid(`input[${wrong}]`, `The field "input[${wrong}]" must be text or a list of token numbers.`);
  }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}

function isTokens(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && isTokenList(value);
}

function isTokenList(list: readonly unknown[]): boolean {
  return list.every((item) => typeof item === 'number' && Number.isSafeInteger(item) && item >= 0);
}
