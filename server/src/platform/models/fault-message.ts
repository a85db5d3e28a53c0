import type { ProviderConnection } from './types.ts';

const MAX_CHARACTERS = 300;
/** A message beyond this is no sentence for people; it is not even looked at. */
const MAX_READ_CHARACTERS = 2_000;

const MARKUP = /<\/?[a-z!][^>]{0,500}>/i;
const STACK =
  /\n\s*at\s|\bat\s+\S+\s+\(\S+:\d+:\d+\)|Traceback \(most recent|File "[^"]*", line \d|\bpanic:|\.(?:[jt]s|py|go|rs|java|cpp):\d+/;

/** What must not leave, each with what stands in its place. In this order: a URL holds a host and a path. */
const HIDDEN: readonly (readonly [RegExp, string])[] = [
  [/\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s"'`<>)]+/gi, '[address]'],
  [/\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b/g, '[address]'],
  [/\[[0-9a-f:]{3,}\](?::\d+)?/gi, '[address]'],
  [/\bip-\d{1,3}(?:-\d{1,3}){3}\b/gi, '[address]'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/g, '[address]'],
  [/\b(?=[a-z0-9.-]*[a-z])[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?:\d{2,5}\b/gi, '[address]'],
  [
    /\b(?:[a-z0-9-]+\.)+(?:com|net|org|io|ai|dev|app|cloud|co|eu|de|fr|uk|us|cn|jp|kr|ru|br|au|ca|ch|nl|se|gov|edu|internal|local|localhost|lan|corp|svc|cluster|home|intranet|private|host|run|tech|xyz|info|example|test|invalid)\b(?:\.[a-z0-9-]+)*/gi,
    '[address]',
  ],
  [/\blocalhost\b/gi, '[address]'],
  [/\b[A-Za-z]:\\[^\s"'`]+/g, '[path]'],
  [/(?<![\w/])~?(?:\/[\w.@+~-]+){2,}\/?/g, '[path]'],
  [/\b(?:bearer|basic)\s+[\w.~+/=*-]{6,}/gi, '[key]'],
  [
    /\b(?:sk|pk|rk|ak|gsk|xai|hf|r8|nvapi|ghp|gho|xox[a-z]|key|api|token|org|proj|acct|AKIA|AIza)[-_]?[\w-]*[*•.]{3,}[\w-]*/gi,
    '[key]',
  ],
  [/\b(?:sk|pk|rk|gsk|xai|hf|r8|nvapi|ghp|gho|xox[a-z])[-_][\w*-]{6,}/gi, '[key]'],
  [/\b(?:org|proj|acct|user)[-_](?=[\w-]*\d)[\w-]{8,}/gi, '[account]'],
  [/\b(?:AKIA|AIza|eyJ)[\w.-]{10,}/g, '[key]'],
  [/[\w*•-]*[*•]{4,}[\w*•-]*/g, '[key]'],
  // Long runs that mix letters and digits: keys, hashes, tokens. Words and numbers alone stay.
  [/\b(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{32,}/g, '[redacted]'],
];

function withoutSecrets(text: string, connection: ProviderConnection): string {
  const secrets = [connection.credential, ...Object.values(connection.headers)];
  if (URL.canParse(connection.baseUrl)) secrets.push(new URL(connection.baseUrl).hostname);
  let result = text;
  for (const secret of secrets) {
    if (secret !== null && secret.length >= 4) result = result.replaceAll(secret, '[redacted]');
  }
  return result;
}

/**
 * A provider's message as a client may read it, at most 300 characters; null where it is no sentence for people (markup,
 * a stack, control characters, thousands of characters). Addresses, paths, keys and accounts are taken out: a provider
 * may be an internal server whose name nobody outside shall learn, and some echo a part of the key.
 */
export function safeMessage(message: string, connection: ProviderConnection): string | null {
  if (message.length > MAX_READ_CHARACTERS || MARKUP.test(message) || STACK.test(message)) return null;
  let text = withoutSecrets(message, connection);
  for (const [pattern, replacement] of HIDDEN) text = text.replaceAll(pattern, replacement);
  text = text.replaceAll(/\s+/g, ' ').trim();
  if (text === '' || hasControlCharacter(text)) return null;
  return text.length <= MAX_CHARACTERS ? text : `${text.slice(0, MAX_CHARACTERS - 1).trimEnd()}…`;
}

/** What a refusal of a request is about: its members, what they may hold, and the model that it asks for. */
const REQUEST_WORDS =
  /\b(?:tokens?|context|param(?:eter)?s?|fields?|arguments?|values?|inputs?|required|must|invalid|(?:un)?support(?:s|ed)?|models?|deployments?|messages?|roles?|images?|audio|files?|tools?|functions?|schemas?|json|temperature|top_[pk]|logprobs|seed|choices?|lengths?|limits?|polic(?:y|ies)|safety|content|flagged|filter\w*|prompts?|stop|stream(?:ing)?|formats?|types?|missing|unknown|unrecognized|expected|exceed\w*|maximum|minimum|too \w+|not (?:allowed|permitted|available))\b/i;
/** What only the one who runs the provider has to do with: its machines, its processes, its stores. */
const MACHINE_WORDS =
  /\b(?:gpus?|cuda|nccl|vram|workers?|pods?|containers?|kubernetes|k8s|replicas?|shards?|nodes?|hosts?|hostnames?|db|databases?|(?:sub)?process(?:es)?|threads?|sockets?|postgres\w*|mysql|sqlite|redis|mongo\w*|kafka|nginx|envoy|upstream|segfault|oom|out of memory|core dumped|errno|E(?:CONN|TIME|PIPE|HOST|NET)\w+)\b|\bselect\b.+\bfrom\b|\binsert\s+into\b|\bupdate\b.+\bset\b|\bdelete\s+from\b/is;

/**
 * A rejection's message for the client, or null: only where it is about the request. No list of forbidden shapes knows
 * each bare name of a machine (`db-primary`), so a sentence that speaks of machines is not passed on at all.
 */
export function rejectionMessage(message: string, connection: ProviderConnection): string | null {
  const safe = safeMessage(message, connection);
  return safe !== null && REQUEST_WORDS.test(safe) && !MACHINE_WORDS.test(safe) ? safe : null;
}

function hasControlCharacter(text: string): boolean {
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code < 32 || (code >= 127 && code < 160)) return true;
  }
  return false;
}
