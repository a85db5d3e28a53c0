/** What a chat asks for that an engine which only quotes cannot give. */
export interface Unsupported {
  /** The member of the body. */
  readonly param: string;
  /** Safe to show; names the member and the setting that gives a model which can. */
  readonly message: string;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * The first member of a chat that a quotation would break its promise on: several answers, JSON, or a tool that must be
 * called. Null where a quotation is an answer, if a plain one: tools that may be left uncalled are among that, and so are
 * images and sampling.
 */
export function unsupportedIn(json: Json): Unsupported | null {
  const { n, response_format: format, tool_choice: toolChoice, function_call: functionCall } = json;
  if (typeof n === 'number' && n > 1) return unsupported('n', 'gives one answer');
  if (isAsked(format) && typeOf(format) !== 'text')
    return unsupported('response_format', 'answers in plain text only');
  if (mustCall(toolChoice)) return unsupported('tool_choice', 'calls no tools');
  if (mustCall(functionCall)) return unsupported('function_call', 'calls no functions');
  return null;
}

function unsupported(param: string, what: string): Unsupported {
  const message =
    `${param}: the extractive engine quotes documents, generates nothing and ${what}. ` +
    'Ask for a generative model; the operator connects one with STOA_OPENAI_BASE_URL, or as a provider.';
  return { param, message };
}

const isAsked = (value: unknown): boolean => value !== undefined && value !== null;

function typeOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, 'type') : value;
}

/** `required`, one that is named, or a list of which one is required; `auto` and `none` leave the choice to the engine. */
function mustCall(choice: unknown): boolean {
  if (!isAsked(choice) || choice === 'auto' || choice === 'none') return false;
  if (typeof choice !== 'object' || choice === null || typeOf(choice) !== 'allowed_tools') return true;
  const allowed: unknown = Reflect.get(choice, 'allowed_tools');
  return typeof allowed !== 'object' || allowed === null || Reflect.get(allowed, 'mode') !== 'auto';
}
