import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { AppError } from '#kernel';

/** Where a Redis server is and how to get in. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly database: number;
  /** Null for a plain connection. */
  readonly tls: {
    /** The name that the server's certificate must carry; undefined for an address, which is checked as such. */
    readonly servername: string | undefined;
    /** PEM. Without `ca` the authorities that Node knows. */
    readonly ca: string | undefined;
    readonly cert: string | undefined;
    readonly key: string | undefined;
  } | null;
}

const fileOptions = ['ca', 'cert', 'key'] as const;
const tlsOptions = new Set<string>([...fileOptions, 'servername']);
const expectedForm =
  'redis://[user:password@]host[:port][/database], or rediss:// and then options like ?ca=file.pem';

/** What is wrong with a URL's form, or null; holds nothing of its credentials. Reads no files. */
export function redisUrlFault(text: string): { readonly wrong: string; readonly expected: string } | null {
  const wrong = wrongWith(text);
  return wrong === null ? null : { wrong, expected: expectedForm };
}

function wrongWith(text: string): string | null {
  if (!URL.canParse(text)) return 'it is no URL';
  const url = new URL(text);
  if (url.hostname === '') return 'it names no host';
  if (!/^\/?$|^\/\d{1,5}$/.test(url.pathname)) return 'its path is no number of a database';
  if (url.hash !== '') return 'it holds a fragment';
  if (isUndecodable(url.username) || isUndecodable(url.password))
    return 'its credentials are not percent-encoded';
  const names = [...url.searchParams.keys()];
  const unknown = names.find((name) => !tlsOptions.has(name));
  if (unknown !== undefined) return 'it holds an option that is none of ca, cert, key and servername';
  if (names.length > 0 && url.protocol !== 'rediss:')
    return 'it holds options of TLS, but its scheme is redis:';
  if (url.searchParams.has('cert') !== url.searchParams.has('key'))
    return 'it names one of cert and key alone';
  return null;
}

function isUndecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return false;
  } catch {
    return true;
  }
}

/**
 * Takes a URL apart and reads the files that its TLS options name. Throws `invalid_configuration`, in words without
 * credentials, where the form is wrong or a file can't be read.
 */
export function redisAddress(text: string): RedisAddress {
  const wrong = wrongWith(text);
  if (wrong !== null) throw new AppError('invalid_configuration', `The address of Redis: ${wrong}.`);
  const url = new URL(text);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const [ca, cert, key] = fileOptions.map((name) => {
    const path = url.searchParams.get(name);
    return path === null ? undefined : fileOf(name, path);
  });
  const servername = url.searchParams.get('servername') ?? (isIP(host) === 0 ? host : undefined);
  return {
    host,
    port: Number(url.port || 6379),
    username: url.username === '' ? undefined : decodeURIComponent(url.username),
    password: url.password === '' ? undefined : decodeURIComponent(url.password),
    database: Number(url.pathname.slice(1) || 0),
    tls: url.protocol === 'rediss:' ? { servername, ca, cert, key } : null,
  };
}

function fileOf(option: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AppError(
      'invalid_configuration',
      `The address of Redis: its ${option}, ${path}, cannot be read.`,
      {
        cause,
      },
    );
  }
}
