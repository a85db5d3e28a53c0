import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { byteUnits, type ListenAddress, type SettingDeclaration, type SettingValue } from '@stoa/contracts';
import { readNetwork } from '#kernel';

/** Either a value, or what was wrong with the text; the text itself is never part of `wrong` where it is a secret. */
export type Parsed = { readonly value: SettingValue } | { readonly wrong: string };

const units: Readonly<Record<string, number>> = { '': 1, ...byteUnits };
const placeholder = 'the value';

/**
 * Reads the text of one setting.
 * @param baseDirectory what a relative path is relative to
 */
export function parseSetting(declaration: SettingDeclaration, text: string, baseDirectory: string): Parsed {
  const shown = declaration.isSecret === true ? placeholder : JSON.stringify(text);
  switch (declaration.type) {
    case 'text':
      return hasControlCharacters(text) ? { wrong: `${shown} holds control characters` } : { value: text };
    case 'boolean':
      return parseBoolean(text, shown);
    case 'integer':
    case 'duration':
    case 'days':
    case 'months':
      return parseWhole(text, shown, 1, declaration);
    case 'bytes': {
      const match = /^(\d+)(KiB|MiB|GiB)$/.exec(text);
      return parseWhole(match?.[1] ?? text, shown, units[match?.[2] ?? ''] ?? 1, declaration);
    }
    case 'listen':
      return parseListen(text, shown);
    case 'path':
      return hasControlCharacters(text)
        ? { wrong: `${shown} holds control characters` }
        : { value: resolve(baseDirectory, text) };
    case 'networks':
      return parseNetworks(text);
    case 'url':
      return parseUrl(text, shown, declaration.protocols);
    case 'enum':
      return declaration.values.includes(text) ? { value: text } : { wrong: `${shown} is none of them` };
    case 'base64':
      return parseBase64(text, declaration.sizeBytes);
  }
}

function hasControlCharacters(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 32 || code === 127) return true;
  }
  return false;
}

function parseBoolean(text: string, shown: string): Parsed {
  if (text === 'true' || text === '1') return { value: true };
  if (text === 'false' || text === '0') return { value: false };
  return { wrong: `${shown} is neither` };
}

function parseWhole(
  digits: string,
  shown: string,
  unit: number,
  range: { readonly min: number; readonly max: number },
): Parsed {
  if (!/^\d{1,15}$/.test(digits)) return { wrong: `${shown} is no whole number` };
  const value = Number(digits) * unit;
  if (value < range.min) return { wrong: `${shown} is too small` };
  if (value > range.max) return { wrong: `${shown} is too large` };
  return { value };
}

function parseListen(text: string, shown: string): Parsed {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text);
  if (!match) return { wrong: `${shown} is no address with a port` };
  const [, v6, name, portText = ''] = match;
  if (v6 !== undefined && isIP(v6) !== 6) return { wrong: `${shown} holds no IPv6 address in its brackets` };
  const port = Number(portText);
  if (port > 65_535) return { wrong: `port ${port} is too large` };
  const value: ListenAddress = { host: v6 ?? name ?? '', port };
  return { value };
}

function parseNetworks(text: string): Parsed {
  const networks = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  const wrong = networks.filter((network) => readNetwork(network) === null);
  if (wrong.length > 0)
    return { wrong: `${wrong.map((network) => JSON.stringify(network)).join(', ')} is no address` };
  return { value: networks };
}

/** Keeps the text as it came, but for slashes at the end of a web address, which would double in what is appended. */
function parseUrl(text: string, shown: string, protocols: readonly string[]): Parsed {
  if (!URL.canParse(text) || hasControlCharacters(text) || text.includes(' '))
    return { wrong: `${shown} is no URL` };
  const { protocol, host } = new URL(text);
  if (!protocols.includes(protocol)) return { wrong: `${shown} has another scheme` };
  const isWeb = protocol === 'http:' || protocol === 'https:';
  if (isWeb && host === '') return { wrong: `${shown} names no host` };
  return { value: isWeb ? text.replace(/\/+$/, '') : text };
}

function parseBase64(text: string, sizeBytes: number): Parsed {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) && !/^[A-Za-z0-9_-]*$/.test(text)) {
    return { wrong: 'the value is no base64' };
  }
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== sizeBytes) return { wrong: `the value holds ${bytes.length} bytes` };
  return { value: new Uint8Array(bytes) };
}
