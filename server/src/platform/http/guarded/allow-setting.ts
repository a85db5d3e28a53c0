import { fromTypeId } from '#kernel';
import { type AllowList, emptyAllowList, readAllowList } from './allow-list.ts';

/** What the operator lets pass: for every tenant, and beside that for single ones. */
export interface OutboundAllowances {
  readonly all: AllowList;
  /** By the tenant's UUID; the empty list for one that is not named. */
  of(tenantId: string): AllowList;
}

export type OutboundAllowancesReading =
  | { readonly allowances: OutboundAllowances }
  /** The entries that are none, as they were written. */
  | { readonly wrong: readonly string[] };

/** Reads entries of an allow-list, separated by commas; `ten_...=` before one makes it that tenant's alone. */
export function readOutboundAllowances(text: string | null): OutboundAllowancesReading {
  const entriesOf = new Map<string | null, string[]>([[null, []]]);
  const wrong: string[] = [];
  for (const written of text?.split(',') ?? []) {
    const entry = written.trim();
    if (entry === '') continue;
    const parts = entry.split('=');
    const tenantId = parts.length === 2 ? fromTypeId('ten', parts[0] ?? '') : null;
    const listed = parts.at(-1) ?? '';
    const isWrong = (parts.length > 1 && tenantId === null) || 'faults' in readAllowList([listed]);
    if (isWrong) wrong.push(entry);
    else entriesOf.set(tenantId, [...(entriesOf.get(tenantId) ?? []), listed]);
  }
  if (wrong.length > 0) return { wrong };
  const lists = new Map([...entriesOf].map(([tenantId, entries]) => [tenantId, listOf(entries)]));
  return {
    allowances: {
      all: lists.get(null) ?? emptyAllowList,
      of: (tenantId) => lists.get(tenantId) ?? emptyAllowList,
    },
  };
}

function listOf(entries: readonly string[]): AllowList {
  const read = readAllowList(entries);
  return 'list' in read ? read.list : emptyAllowList;
}
