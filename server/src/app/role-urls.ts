import { roleTable } from './roles.ts';

/** Where the roles live that have no code in this process: an origin for each of their processes. */
export type RoleUrls = ReadonlyMap<string, readonly string[]>;

/**
 * Reads STOA_ROLE_URLS: `role=url`, separated by commas, a role once for each of its processes.
 * @returns the first thing that is wrong with it, where something is
 */
export function readRoleUrls(
  text: string | null,
  known: readonly string[] = Object.keys(roleTable),
): { readonly urls: RoleUrls } | { readonly wrong: string } {
  const urls = new Map<string, string[]>();
  for (const part of (text ?? '').split(',').map((one) => one.trim())) {
    if (part === '') continue;
    const at = part.indexOf('=');
    const role = at === -1 ? part : part.slice(0, at);
    if (at === -1) return { wrong: 'a part of it is not role=url' };
    if (!known.includes(role))
      return { wrong: `there is no role named ${role}; the roles are ${known.join(', ')}` };
    const origin = originOf(part.slice(at + 1));
    if (origin === null)
      return { wrong: `the URL of ${role} is not http:// or https:// with a host and nothing behind it` };
    const list = urls.get(role) ?? [];
    if (list.includes(origin)) return { wrong: `${role} has the same URL twice` };
    urls.set(role, [...list, origin]);
  }
  return { urls };
}

/** A credential, a path or a query would be dropped on the way, so they are refused. */
function originOf(text: string): string | null {
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  const isPlain = url.username + url.password + url.search + url.hash === '' && url.pathname === '/';
  return isPlain && /^https?:$/.test(url.protocol) ? url.origin : null;
}
