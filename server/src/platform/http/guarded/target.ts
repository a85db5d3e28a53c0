/**
 * What a tenant wrote as a URL, read strictly, before any name is looked up.
 *
 * The parser is the one that the request itself is made with (WHATWG, Node's), so that no second reading of the same text
 * can point elsewhere: it turns every odd form of IPv4 (octal, hexadecimal, one number, full-width digits) into the plain
 * one and refuses zones. What the parser forgives is refused before: white space, backslashes, missing or extra slashes,
 * an empty user name.
 */
import { isIP } from 'node:net';
import { isPublicAddress } from './addresses.ts';
import { type AllowList, openPorts } from './allow-list.ts';
import type { GuardRefusal } from './guarded-types.ts';

/** A URL that may be called as far as its text says. `address` is set where the host is one. */
export interface Target {
  readonly url: URL;
  /** The host as it is looked up: without brackets and the final dot. */
  readonly host: string;
  readonly port: number;
  readonly address: string | null;
}

export type TargetReading = { readonly target: Target } | { readonly refusal: GuardRefusal };

/** What the deployment lets pass. */
export interface TargetRules {
  readonly isHttpAllowed: boolean;
  /** Each of them may let a host, an address or a port pass. */
  readonly allow: readonly AllowList[];
}

const maxUrlCharacters = 2048;
const plainForm = /^https?:\/\/[^/?#\\]+(?:[/?#]|$)/i;
const unseen = /[\p{Cc}\s]/u;

/**
 * Endings of names that mean something inside a network or nothing at all: the registry of special-use domain names,
 * the names that ICANN keeps out of the root, and those that clusters and home networks use.
 */
const innerEndings: ReadonlySet<string> = new Set([
  'alt',
  'arpa',
  'cluster',
  'consul',
  'corp',
  'docker',
  'example',
  'home',
  'internal',
  'intranet',
  'invalid',
  'kubernetes',
  'lan',
  'local',
  'localdomain',
  'localhost',
  'mail',
  'onion',
  'private',
  'svc',
  'test',
]);

function refuse(reason: GuardRefusal['reason'], detail: string): TargetReading {
  return { refusal: { reason, detail } };
}

/** Names of one label mean a host of the same network, whatever it is called. */
function isInnerName(host: string): boolean {
  const last = host.slice(host.lastIndexOf('.') + 1);
  return last === host || innerEndings.has(last);
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port);
  return url.protocol === 'https:' ? 443 : 80;
}

/** Host without the brackets of IPv6 and without the final dot that means the same name. */
function hostOf(url: URL): string {
  const { hostname } = url;
  if (hostname.startsWith('[')) return hostname.slice(1, -1);
  return hostname.endsWith('.') ? hostname.slice(0, -1) : hostname;
}

/** Reads a URL against the rules; nothing is looked up and nothing is called. */
export function readTarget(text: string, rules: TargetRules): TargetReading {
  if (text.length > maxUrlCharacters)
    return refuse('bad_url', `the URL is longer than ${maxUrlCharacters} characters`);
  const [beforeQuery = ''] = text.split(/[?#]/, 1);
  if (unseen.test(text) || beforeQuery.includes('\\'))
    return refuse('bad_url', 'the URL has white space, a control character or a backslash');
  if (!URL.canParse(text)) return refuse('bad_url', 'this is no URL');
  const url = new URL(text);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return refuse('scheme', `the scheme ${url.protocol} is not called`);
  if (!plainForm.test(text)) return refuse('bad_url', 'two slashes and a host must follow the scheme');
  if (authorityOf(text).includes('@')) return refuse('credentials', 'the URL has a user name or password');
  return readHost(url, rules);
}

function authorityOf(text: string): string {
  const start = text.indexOf('//') + 2;
  return text.slice(start).split(/[/?#]/, 1)[0] ?? '';
}

function readHost(url: URL, { isHttpAllowed, allow }: TargetRules): TargetReading {
  const host = hostOf(url);
  const port = portOf(url);
  if (host === '' || host.endsWith('.') || host.includes('..') || host.length > 253)
    return refuse('bad_url', 'the host is no name');
  const isNamed = allow.some((list) => list.hasHost(host, port));
  const address = isIP(host) === 0 ? null : host;
  const isAddressListed = address !== null && allow.some((list) => list.hasAddress(address, port));
  const isListed = isNamed || isAddressListed;
  if (url.protocol === 'http:' && !isHttpAllowed && !isListed)
    return refuse('scheme', 'plain http is not called: use https');
  if (address === null && !isNamed && isInnerName(host))
    return refuse('inner_name', `${host} is a name inside a network`);
  if (address !== null && !isListed && !isPublicAddress(address))
    return refuse('special_address', `${address} is not a public address`);
  if (!openPorts.has(port) && !isListed)
    return refuse('port', `port ${port} is not called: 80, 443, 8080 and 8443 are`);
  return { target: { url, host, port, address } };
}
