/**
 * A resource as the audit keeps it: JSON without secrets, bounded. What modules hand over is what the wire shows, which
 * holds no secret; this is the second net, by name and by look, for the day on which a module hands over more.
 */

import { shortenedJson } from './shorten.ts';

/** Of longer JSON the large members are shortened: an entry is a line of a book, not a backup. */
const maximumCharacters = 16_384;
const deepest = 12;
const redacted = '[redacted]';

const secretName =
  /^(?:key|api_?key|secret|token|access_?token|refresh_?token|password|passphrase|credentials?|hash|plaintext|authorization|cookie|seed|private_?key|signing_?(?:key|secret)|client_?secret|master_?key)$|(?:_|[a-z])(?:hash|secret|secrets|sealed|password|plaintext|privatekey|private_key)$/i;

/** Our own keys, JWTs, and what Standard Webhooks calls its secrets, wherever they stand in a text. */
const secretText =
  /stoa_(?:sk|op)_[0-9A-Za-z]{12}_[0-9A-Za-z]{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|wh(?:sec|sk)_[\w+/=-]{16,}|sk-[\w-]{20,}/g;

/** What a private or a symmetric key of RFC 7517 holds in members of one letter or two; elsewhere those are names like others. */
const keyMembers = new Set(['d', 'k', 'p', 'q', 'dp', 'dq', 'qi', 'oth']);

/** Some services take their secret in the address: in a parameter, or as a part of the path that is no word. */
const address = /\bhttps?:\/\/[^\s"'<>]+/gi;
const parameterValue = /(?<=[?&;][^=&;#]{0,200}=)[^&;#]+/g;
const secretPart = /(?<=\/)(?=[\w~.-]*\d)(?=[\w~.-]*[a-z])[\w~.-]{20,}/gi;

/** JSON text of a value, or null for one that is absent. Never throws for what JSON can hold. */
export function redactedJson(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const short = redact(value, 0);
  const text = JSON.stringify(short);
  return text.length <= maximumCharacters ? text : shortenedJson(short, maximumCharacters);
}

function redact(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return withoutSecrets(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth > deepest) return '[too deep]';
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return redacted;
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  const isKey = 'kty' in value;
  // fromEntries defines properties, so a member named __proto__ stays a member.
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      withoutSecrets(name),
      isSecret(name, member) || (isKey && keyMembers.has(name)) ? redacted : redact(member, depth + 1),
    ]),
  );
}

/** Whether there is a secret of that name is no secret. */
function isSecret(name: string, member: unknown): boolean {
  return member !== null && member !== undefined && typeof member !== 'boolean' && secretName.test(name);
}

/** PostgreSQL holds neither NUL nor lone surrogates, and no entry fails for one. */
function withoutSecrets(text: string): string {
  const plain = text.toWellFormed().replaceAll('\0', '\uFFFD').replace(secretText, redacted);
  return plain.replace(address, (url) => url.replace(parameterValue, redacted).replace(secretPart, redacted));
}
