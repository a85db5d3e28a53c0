/**
 * A light reading of SQL text, for two rules that the database can't hold by itself:
 * - a door's transaction is the door's: no statement may end it, change its role or its tenant, or be DDL;
 * - a job of the system door touches only what `grants.ts` lists for it (the role's own grants are the union over jobs).
 *
 * It reads words, not grammar. Names count when they are qualified by one of our schemas; unqualified ones can't reach
 * a table, since every session's search_path is pg_catalog alone. It errs on the strict side: an alias named `tenant`
 * reads as the schema. It is a guard against mistakes, not against SQL injection; the role's grants are.
 * Statements are few and constant, so the reading is cached by text.
 */

import type { JobGrants, Verb } from './grants.ts';

export interface StatementFacts {
  /** Why no door takes this statement, or null. */
  readonly refusal: string | null;
  /** `schema.name` -> verbs used on it. */
  readonly uses: ReadonlyMap<string, ReadonlySet<Verb>>;
}

const cacheLimit = 4000;
const cache = new Map<string, StatementFacts>();

const ignored =
  /--[^\n]*|\/\*[\s\S]*?\*\/|e'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$([a-z_]*)\$[\s\S]*?\$\1\$/gi;
const allowedStart =
  /^\s*\(*\s*(select|insert|update|delete|with|values|merge|explain|savepoint|release|rollback\s+to)\b/i;
const changesIdentity = /set_config\s*\(\s*'(role|session_authorization|stoa\.[a-z_.]+)'/i;
const ourNames = /(?<!::\s*)(?<![\w.$])(tenant|platform|jobs)\s*\.\s*([a-z_][\w$]*)(\s*\()?/gi;

function verbsAt(before: string, isCalled: boolean, hasUpsert: boolean): Verb[] {
  if (/\binsert\s+into\s*$/.test(before)) return hasUpsert ? ['insert', 'update'] : ['insert'];
  if (/\bdelete\s+from\s+(only\s+)?$/.test(before)) return ['delete'];
  if (/\bmerge\s+into\s+(only\s+)?$/.test(before)) return ['insert', 'update', 'delete'];
  if (/\bupdate\s+(only\s+)?$/.test(before)) return ['update'];
  return [isCalled ? 'execute' : 'select'];
}

function readStatement(text: string): StatementFacts {
  const uses = new Map<string, Set<Verb>>();
  if (changesIdentity.test(text))
    return { refusal: 'it changes the role or the tenant of its transaction', uses };
  const words = text.replace(ignored, ' ').replaceAll('"', '').toLowerCase();
  if (!allowedStart.test(words)) return { refusal: 'only queries and savepoints run inside a door', uses };
  const hasUpsert = /\bon\s+conflict\b[\s\S]*\bdo\s+update\b/.test(words);
  for (const match of words.matchAll(ourNames)) {
    const [, schema = '', name = '', call] = match;
    const key = `${schema}.${name}`;
    const verbs = uses.get(key) ?? new Set<Verb>();
    for (const verb of verbsAt(
      words.slice(Math.max(0, match.index - 40), match.index),
      call !== undefined,
      hasUpsert,
    )) {
      verbs.add(verb);
    }
    uses.set(key, verbs);
  }
  return { refusal: null, uses };
}

/** What a statement is and touches. Cached; the oldest entry leaves at 4,000. */
export function statementFacts(text: string): StatementFacts {
  const known = cache.get(text);
  if (known !== undefined) return known;
  const facts = readStatement(text);
  const oldest = cache.keys().next();
  if (cache.size >= cacheLimit && oldest.done !== true) cache.delete(oldest.value);
  cache.set(text, facts);
  return facts;
}

/** The first use that the grants lack, as `verb on schema.name`, or null. */
export function firstMissingGrant(facts: StatementFacts, grants: JobGrants): string | null {
  for (const [name, verbs] of facts.uses) {
    for (const verb of verbs) {
      if (grants[name]?.includes(verb) !== true) return `${verb} on ${name}`;
    }
  }
  return null;
}
