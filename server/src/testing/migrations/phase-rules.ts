/**
 * What a migration may do in its phase, read from its text. An expand migration applies while code of the version before
 * serves: it must leave everything that this code uses as it is, and must not make it wait. A contract migration may take
 * everything away, and must not bring what the new code needs, since that code serves before it.
 *
 * It reads words, not grammar, and knows of the database only what earlier files made. What it can't read, it refuses
 * (`execute` in a `do` block).
 */
import type { MigrationPhase } from '#db';
import { parenthesised, splitAtCommas, type Statement, statementsOf } from './sql-statements.ts';

export interface PhasedFile {
  readonly label: string;
  readonly phase: MigrationPhase;
  readonly sql: string;
}

/** Rule -> what to do instead. */
export const phaseRules = {
  drop: 'dropping belongs into a contract migration',
  'drop-policy': 'drop a policy only where the same file creates one of its name again',
  'drop-constraint':
    'drop a constraint only where the same file adds one of its name again, not valid; else in a contract migration',
  rename:
    'older code knows the old name: add the new one beside it, and drop the old one in a contract migration',
  type: 'add a column (a type, a function) beside the old one, and drop the old one in a contract migration',
  'not-null':
    'older code leaves the column out: give it a default, or set it not null in a contract migration',
  default: 'older code relies on it: drop it in a contract migration',
  constraint:
    'add it `not valid`, and validate it in a later file; a unique one belongs into a contract migration',
  signature: 'calls with few or named arguments become ambiguous or fail: give the new function a new name',
  rights: 'older code needs what it was granted: take it away in a contract migration',
  rows: 'older code may read these rows: remove them in a contract migration',
  partition: 'older code may read these rows: detach the partition in a contract migration',
  'index-blocks':
    'building it stops all writes to a large table: say `-- concurrently` in the second line of a file that does only this',
  unreadable: 'SQL put together at run time cannot be checked here: write it out',
  brings: 'the code that needs it serves before this applies: bring it in an expand migration',
} as const;

export type PhaseRule = keyof typeof phaseRules;

export interface PhaseBreach {
  readonly label: string;
  readonly rule: PhaseRule;
  readonly statement: string;
}

/** What the files so far have made. */
interface Made {
  /** Table -> whether it is partitioned. */
  readonly tables: Map<string, boolean>;
  /** Name -> arguments and result. */
  readonly functions: Map<string, Set<string>>;
  /** Table -> `role verb`. */
  readonly rights: Map<string, Set<string>>;
}

/** Tables that traffic fills, beside the partitioned ones. */
const largeTables: ReadonlySet<string> = new Set([
  'tenant.event_deliveries',
  'tenant.event_inbox',
  'tenant.idempotency_keys',
  'platform.idempotency_keys',
  'platform.audit_entries',
  'jobs.job_common',
]);

/** One file's statements, and what it has made itself: that is nobody's yet. */
interface Reading {
  readonly made: Made;
  readonly own: ReadonlySet<string>;
  readonly statements: readonly Statement[];
  /** Whether the runner builds its index without stopping writes. */
  readonly isConcurrent: boolean;
}

const name = '([a-z_][\\w$.]*)';
const createdPattern = new RegExp(
  `^create (?:or replace )?(?:temp(?:orary)? |unlogged )?(table|type|domain|view|function|procedure|sequence|schema|index|trigger)(?: if not exists)? ${name}`,
);
const functionPattern = new RegExp(`^create (?:or replace )?(?:function|procedure) ${name} ?(?=\\()`);
const alterTablePattern = new RegExp(`^alter table (?:if exists )?(?:only )?${name}(?: \\*)? (.+)$`);
const indexPattern = new RegExp(
  `^create (unique )?index (?:concurrently )?(?:if not exists )?(?:${name} )?on (?:only )?${name}`,
);
const protectPattern = new RegExp(
  "^select platform\\.(?:protect_tenant_table|protect_platform_table|grant_verbs) ?\\( ?'([^']+)' ?(?:,|\\))",
);

/** Every breach in the files, which come in the order in which they apply. */
export function phaseBreaches(files: readonly PhasedFile[]): PhaseBreach[] {
  const made: Made = { tables: new Map(), functions: new Map(), rights: new Map() };
  return files.flatMap((file) => {
    const statements = statementsOf(file.sql).flatMap(withBlocks);
    const own = new Set(statements.flatMap(({ text }) => createdPattern.exec(text)?.[2] ?? []));
    const isConcurrent = file.sql.split('\n')[1] === '-- concurrently';
    const reading: Reading = { made, own, statements, isConcurrent };
    const breaches = statements.flatMap((statement) =>
      rulesBroken(file.phase, statement, reading).map((rule) => ({
        label: file.label,
        rule,
        statement: statement.text.slice(0, 120),
      })),
    );
    for (const statement of statements) remember(statement, made);
    return breaches;
  });
}

/** A `do` block's own statements beside it: each from the word on that begins one. */
function withBlocks(statement: Statement): Statement[] {
  if (!statement.text.startsWith('do ')) return [statement];
  const inner = statement.bodies.flatMap(statementsOf).flatMap(({ text, bodies }) => {
    const begin = /\b(?:drop|alter|create|truncate|revoke|execute|delete from|select platform)\b/.exec(text);
    return begin === null ? [] : [{ text: text.slice(begin.index), bodies }];
  });
  return [statement, ...inner];
}

function rulesBroken(phase: MigrationPhase, statement: Statement, reading: Reading): PhaseRule[] {
  if (phase === 'contract') return bringsBroken(statement.text, reading);
  const { text } = statement;
  if (text.startsWith('execute ')) return ['unreadable'];
  if (text.startsWith('truncate ')) return ['rows'];
  if (text.startsWith('revoke ')) return revokeBroken(text, reading);
  if (text.startsWith('drop ')) return dropBroken(text, reading);
  if (text.startsWith('alter ')) return alterBroken(text, reading);
  if (text.startsWith('create ')) return createBroken(text, reading);
  if (protectPattern.test(text)) return rightsBroken(text, reading.made);
  return [];
}

function bringsBroken(text: string, { own }: Reading): PhaseRule[] {
  if (/^create (?:unlogged )?table /.test(text)) return ['brings'];
  const [, table = '', actions = ''] = alterTablePattern.exec(text) ?? [];
  if (own.has(table)) return [];
  return splitAtCommas(actions).some((action) => addedColumn(action) !== null) ? ['brings'] : [];
}

function revokeBroken(text: string, { own }: Reading): PhaseRule[] {
  const target = new RegExp(` on (?:table |function |sequence |schema |type )?${name}`).exec(text)?.[1] ?? '';
  return own.has(target) ? [] : ['rights'];
}

function dropBroken(text: string, { own, statements }: Reading): PhaseRule[] {
  const policy = new RegExp(`^drop policy (?:if exists )?(\\w+) on ${name}`).exec(text);
  if (policy !== null) {
    const [, policyName = '', table = ''] = policy;
    const isReplaced = statements.some((other) =>
      other.text.startsWith(`create policy ${policyName} on ${table} `),
    );
    return isReplaced || own.has(table) ? [] : ['drop-policy'];
  }
  const dropped = new RegExp(`^drop [a-z]+(?: view)? (?:concurrently )?(?:if exists )?${name}`).exec(
    text,
  )?.[1];
  return dropped !== undefined && own.has(dropped) ? [] : ['drop'];
}

function alterBroken(text: string, reading: Reading): PhaseRule[] {
  const [, table = '', actions = ''] = alterTablePattern.exec(text) ?? [];
  if (table === '') {
    const [, kind = '', target = ''] = new RegExp(`^alter ([a-z]+) (?:if exists )?${name}`).exec(text) ?? [];
    if (reading.own.has(target)) return [];
    if (/ rename /.test(text) || / set schema /.test(text)) return ['rename'];
    return kind === 'type' || kind === 'domain' ? ['type'] : [];
  }
  if (reading.own.has(table)) return [];
  return splitAtCommas(actions).flatMap((action) => actionBroken(table, action, reading));
}

/** The column's name and the rest, where the action adds a column. */
function addedColumn(action: string): readonly [string, string] | null {
  if (/^add (?:constraint|check|unique|primary key|foreign key|exclude)\b/.test(action)) return null;
  const [, column, rest = ''] = /^add (?:column )?(?:if not exists )?(\w+) (.*)$/.exec(action) ?? [];
  return column === undefined ? null : [column, rest];
}

function actionBroken(table: string, action: string, reading: Reading): PhaseRule[] {
  const added = addedColumn(action);
  if (added !== null) return columnBroken(added[1]);
  if (action.startsWith('add ')) {
    const isUnique = /\b(?:unique|primary key|exclude)\b/.test(action.replaceAll(/\(.*\)/g, ''));
    const isOpen = /\bnot valid$/.test(action) || concernsNewColumn(table, action, reading);
    return isUnique || !isOpen ? ['constraint'] : [];
  }
  if (action.startsWith('rename ') || action.startsWith('set schema ')) return ['rename'];
  if (action.startsWith('detach partition ')) return ['partition'];
  if (action.startsWith('drop constraint ')) return constraintBroken(table, action, reading);
  if (action.startsWith('drop ')) return ['drop'];
  return action.startsWith('alter ') ? alteredColumnBroken(table, action, reading) : [];
}

/** Older code leaves the column as it is in every row, and no row can break a constraint that lets that through. */
function concernsNewColumn(table: string, action: string, { statements }: Reading): boolean {
  const inside = parenthesised(action, action.indexOf('(')) ?? '';
  return statements.some(({ text }) => {
    const [, other, actions = ''] = alterTablePattern.exec(text) ?? [];
    if (other !== table) return false;
    const columns = splitAtCommas(actions).flatMap((one) => addedColumn(one)?.[0] ?? []);
    return columns.some((column) => new RegExp(`\\b${column}\\b`).test(inside));
  });
}

function columnBroken(definition: string): PhaseRule[] {
  const outside = definition.replaceAll(/\([^()]*(?:\([^()]*\)[^()]*)*\)/g, '()');
  const broken: PhaseRule[] = [];
  if (/\bnot null\b/.test(outside) && !/\b(?:default|generated)\b/.test(outside)) broken.push('not-null');
  if (/\b(?:unique|primary key)\b/.test(outside)) broken.push('constraint');
  return broken;
}

function constraintBroken(table: string, action: string, { statements }: Reading): PhaseRule[] {
  const constraint = /^drop constraint (?:if exists )?(\w+)/.exec(action)?.[1] ?? '';
  const isReplaced = statements.some(({ text }) => {
    const [, other, actions = ''] = alterTablePattern.exec(text) ?? [];
    return (
      other === table && splitAtCommas(actions).some((one) => one.startsWith(`add constraint ${constraint} `))
    );
  });
  return isReplaced ? [] : ['drop-constraint'];
}

function alteredColumnBroken(table: string, action: string, { statements }: Reading): PhaseRule[] {
  const [, column = '', change = ''] = /^alter (?:column )?(\w+) (.*)$/.exec(action) ?? [];
  if (/^(?:set data )?type\b/.test(change)) return ['type'];
  if (/^drop (?:default|identity|expression)\b/.test(change)) return ['default'];
  if (!change.startsWith('set not null')) return [];
  const getsDefault = statements.some(({ text }) => {
    const [, other, actions = ''] = alterTablePattern.exec(text) ?? [];
    return other === table && new RegExp(`\\balter (?:column )?${column} set default\\b`).test(actions);
  });
  return getsDefault ? [] : ['not-null'];
}

function createBroken(text: string, { made, own, isConcurrent }: Reading): PhaseRule[] {
  const [, unique, , indexed = ''] = indexPattern.exec(text) ?? [];
  if (indexed !== '' && !own.has(indexed)) {
    if (unique !== undefined) return ['constraint'];
    const isLarge = made.tables.get(indexed) === true || largeTables.has(indexed);
    return isLarge && !isConcurrent ? ['index-blocks'] : [];
  }
  const policy = new RegExp(`^create policy \\w+ on ${name} as restrictive\\b`).exec(text)?.[1];
  if (policy !== undefined && !own.has(policy)) return ['rights'];
  const [, functionName = ''] = functionPattern.exec(text) ?? [];
  const known = made.functions.get(functionName);
  return known !== undefined && !known.has(signatureOf(text)) ? ['signature'] : [];
}

/** Arguments and result of a function as they are written. */
function signatureOf(text: string): string {
  const open = text.indexOf('(');
  const inside = parenthesised(text, open) ?? '';
  const behind = text.slice(open + inside.length + 2);
  const result =
    /^\s*returns (.*?) (?:language|as|immutable|stable|volatile|security|set|strict|parallel|cost)\b/.exec(
      behind,
    );
  return `${inside.trim()} -> ${result?.[1]?.trim() ?? ''}`.replaceAll(/\s*([(),])\s*/g, '$1');
}

/** `role verb` for what the helper functions grant; they take away everything else. */
function rightsOf(text: string): { readonly table: string; readonly rights: ReadonlySet<string> } | null {
  const table = protectPattern.exec(text)?.[1];
  const inside = parenthesised(text, text.indexOf('('));
  if (table === undefined || inside === null) return null;
  const roles = ['tenant', 'operator', 'system'];
  const rights = splitAtCommas(inside)
    .slice(1)
    .flatMap((argument, index) => {
      const [, named, verbs] = /^(?:(\w+)_verbs ?(?:=>|:=) ?)?'([^']*)'/.exec(argument) ?? [];
      if (verbs === undefined) return [];
      return verbs.split(',').map((verb) => `${named ?? roles[index] ?? ''} ${verb.trim()}`);
    });
  return { table, rights: new Set(rights) };
}

function rightsBroken(text: string, made: Made): PhaseRule[] {
  const granted = rightsOf(text);
  const before = granted === null ? undefined : made.rights.get(granted.table);
  if (granted === null || before === undefined) return [];
  return [...before].every((right) => granted.rights.has(right)) ? [] : ['rights'];
}

function remember({ text }: Statement, made: Made): void {
  const [, kind, created = ''] = createdPattern.exec(text) ?? [];
  if (kind === 'table') made.tables.set(created, / partition by /.test(text));
  if (kind === 'function' || kind === 'procedure') {
    const known = made.functions.get(created) ?? new Set();
    made.functions.set(created, known.add(signatureOf(text)));
  }
  const [, dropped = ''] = new RegExp(`^drop function (?:if exists )?${name}`).exec(text) ?? [];
  made.functions.delete(dropped);
  const granted = rightsOf(text);
  if (granted !== null) made.rights.set(granted.table, new Set(granted.rights));
}
