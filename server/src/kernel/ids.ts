import { AppError } from './error.ts';
import { uuidV7 } from './uuid-v7.ts';

/**
 * Ids. Inside Stoa and in SQL an id is a UUIDv7 in lower-case text form; at the edge it is a TypeID
 * (`ten_01h...`: a prefix, `_`, 26 characters of Crockford base32 over the 128 bits, specification 0.3 of TypeID).
 * Both forms sort by time of creation. They are converted here and nowhere else.
 */
declare const brand: unique symbol;
type Branded<Text extends string> = string & { readonly [brand]: Text };

/** UUID text of a tenant. */
export type TenantId = Branded<'tenant'>;
/** UUID text of a request. */
export type RequestId = Branded<'request'>;

export type IdPrefix =
  | 'ten'
  | 'req'
  | 'prj'
  | 'prov'
  | 'mod'
  | 'aud'
  | 'evt'
  | 'pol'
  | 'job'
  | 'dlt'
  | 'rpl'
  | 'mem'
  | 'tok'
  | 'isr'
  | 'whe'
  | 'whd'
  | 'bud'
  | 'col'
  | 'doc'
  | 'fbk'
  | 'inv'
  | 'run';

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
const values = new Map(Array.from(alphabet).map((letter, value) => [letter, BigInt(value)]));
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const suffixPattern = /^[0-7][0-9a-hjkmnp-tv-z]{25}$/;

/** Whether text is a UUID in lower-case text form; what goes into `set_config` must pass this. */
export function isUuid(text: string): boolean {
  return uuidPattern.test(text);
}

/** A new UUIDv7, monotonic within the process. */
export function newUuid(): string {
  return uuidV7();
}

export function newTenantId(): TenantId {
  return asTenantId(uuidV7());
}

export function newRequestId(): RequestId {
  return asRequestId(uuidV7());
}

/** Marks UUID text as a tenant's id. Throws `invalid_request` where it is no UUID. */
export function asTenantId(uuid: string): TenantId {
  if (isTenantId(uuid)) return uuid;
  throw new AppError('invalid_request', 'The tenant id is not valid.');
}

/** Marks UUID text as a request's id. Throws `invalid_request` where it is no UUID. */
export function asRequestId(uuid: string): RequestId {
  if (isRequestId(uuid)) return uuid;
  throw new AppError('invalid_request', 'The request id is not valid.');
}

function isTenantId(text: string): text is TenantId {
  return isUuid(text);
}

function isRequestId(text: string): text is RequestId {
  return isUuid(text);
}

const nibbles = new Uint8Array(256);
for (let code = 0; code < 256; code++) nibbles[code] = Number.parseInt(String.fromCharCode(code), 16) || 0;

/** The TypeID of a UUID: `toTypeId('req', uuid)` is `req_` and 26 characters. About half a microsecond. */
export function toTypeId(prefix: IdPrefix, uuid: string): string {
  let text = '';
  let bits = 0;
  let held = 2; // 130 bits hold 128: two leading zero bits
  for (let index = 0; index < uuid.length; index++) {
    const code = uuid.charCodeAt(index);
    if (code === 45) continue;
    bits = ((bits << 4) | (nibbles[code] ?? 0)) & 0xfff;
    held += 4;
    if (held >= 5) {
      held -= 5;
      text += alphabet[(bits >> held) & 31];
    }
  }
  return `${prefix}_${text}`;
}

/** The UUID text of a TypeID, or null where the text is no TypeID of that prefix. */
export function fromTypeId(prefix: IdPrefix, id: string): string | null {
  if (!id.startsWith(`${prefix}_`)) return null;
  const suffix = id.slice(prefix.length + 1);
  if (!suffixPattern.test(suffix)) return null;
  let number = 0n;
  for (const letter of suffix) number = (number << 5n) | (values.get(letter) ?? 0n);
  const hex = number.toString(16).padStart(32, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Milliseconds since the Unix epoch at which a UUIDv7 was made. */
export function uuidTimeMs(uuid: string): number {
  return Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16);
}
