import type { Price as ShownPrice, PriceDiff, PriceOverride } from '@stoa/contracts';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import { AppError, type Clock, requireVersion } from '#kernel';
import { type Book, compileBook } from './book.ts';
import { canonicalText, documentText, shortHash } from './book-document.ts';
import { type Override, priceIdOf, readyOverride, subjectOf, termsOf } from './overrides.ts';
import { packageBook } from './package-book.ts';
import { diffOf, type DiffParts, type Priced } from './price-diff.ts';
import type { PriceList } from './price-list.ts';
import {
  insertBook,
  insertOverrides,
  insertRevision,
  lockState,
  type OverrideRow,
  selectOverrides,
  updateState,
} from './prices.sql.ts';
import { overrideOf } from './rows.ts';
import { shownEntry, shownOverride } from './shown-price.ts';

/**
 * Changes of prices, each a new revision: the state's row is locked, the statements are appended, the revision comes into
 * force with the commit. Nothing that was in force is ever changed.
 */
export interface PriceChanges {
  override(by: OperatorContext, body: PriceOverride, ifMatch: string | null): Promise<ShownPrice>;
  remove(by: OperatorContext, id: string, ifMatch: string | null): Promise<ShownPrice>;
  importOverrides<Answer>(
    by: OperatorContext,
    entries: readonly PriceOverride[],
    options: { readonly mode: 'merge' | 'replace'; readonly isDryRun: boolean },
    answer: AnswerOf<Answer>,
  ): Promise<Answer>;
  /** Puts the installed price data in force. */
  importPackage<Answer>(by: OperatorContext, isDryRun: boolean, answer: AnswerOf<Answer>): Promise<Answer>;
}

/** Makes the result of an import, inside its transaction. */
type AnswerOf<Answer> = (tx: OperatorHandle, diff: PriceDiff) => Promise<Answer>;

export interface PriceChangesDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly current: () => PriceList | null;
  /** Makes this process know of a commit at once; the others poll. */
  readonly onChanged: () => Promise<void>;
}

/** The state under its lock: who holds this may append the next revision. */
interface Turn {
  readonly tx: OperatorHandle;
  readonly revision: bigint;
  readonly book: string;
  readonly stated: readonly Override[];
}

export function createPriceChanges(deps: PriceChangesDeps): PriceChanges {
  const { db, clock } = deps;
  const inTurn = async <T>(
    by: OperatorContext,
    reason: string,
    fn: (turn: Turn) => Promise<T>,
  ): Promise<T> => {
    const result = await db.withOperator(by, reason, async (tx) => {
      const { revision, book } = await lockState(tx);
      if (book === null)
        throw new AppError('starting', 'The price book is being made ready.', { retryAfterMs: 1_000 });
      const stated = (await selectOverrides(tx, revision)).map(overrideOf);
      return fn({ tx, revision, book, stated });
    });
    await deps.onChanged();
    return result;
  };
  return {
    override: (by, body, ifMatch) =>
      inTurn(by, 'prices.override', async (turn) => {
        const wanted = statement(body, turn.revision + 1n, by, clock.now());
        const newest = newestOf(turn.stated, wanted.id);
        requireVersion(ifMatch, newest?.terms ? newest.revision : 0);
        if (newest !== null && isSame(newest, wanted) && newest.note === wanted.note) {
          return required(shownOverride(readyOverride(newest), versionOf(turn.book, turn.revision)));
        }
        await append(turn, 'override', [wanted], by);
        await turn.tx.audit({
          action: 'prices.override',
          resource: { type: 'price', id: wanted.id },
          ...(newest?.terms ? { before: auditedOverride(newest) } : {}),
          after: auditedOverride(wanted),
        });
        return required(shownOverride(readyOverride(wanted), versionOf(turn.book, turn.revision + 1n)));
      }),
    remove: (by, id, ifMatch) =>
      inTurn(by, 'prices.remove_override', async (turn) => {
        const newest = newestOf(turn.stated, id);
        if (!newest?.terms) throw new AppError('not_found', 'There is no such override.');
        requireVersion(ifMatch, newest.revision);
        await append(turn, 'removal', [removal(newest, turn.revision + 1n, by, clock.now())], by);
        await turn.tx.audit({
          action: 'prices.remove_override',
          resource: { type: 'price', id },
          before: auditedOverride(newest),
        });
        return required(shownOverride(readyOverride(newest), versionOf(turn.book, turn.revision + 1n)));
      }),
    importOverrides: (by, entries, options, answer) =>
      inTurn(by, options.isDryRun ? 'prices.import (dry run)' : 'prices.import', async (turn) =>
        answer(turn.tx, await importEntries(turn, entries, options, by, clock.now())),
      ),
    importPackage: (by, isDryRun, answer) =>
      inTurn(by, isDryRun ? 'prices.import package (dry run)' : 'prices.import package', async (turn) =>
        answer(turn.tx, await importBook(turn, deps.current()?.book ?? null, isDryRun, by)),
      ),
  };
}

async function importEntries(
  turn: Turn,
  entries: readonly PriceOverride[],
  { mode, isDryRun }: { readonly mode: 'merge' | 'replace'; readonly isDryRun: boolean },
  by: OperatorContext,
  nowMs: number,
): Promise<PriceDiff> {
  const next = turn.revision + 1n;
  const wanted = new Map(
    entries.map((entry) => [priceIdOf(subjectOf(entry), 'override'), statement(entry, next, by, nowMs)]),
  );
  if (wanted.size < entries.length) {
    throw new AppError('conflict', 'The list states the price of one target or model twice.', {
      param: 'entries',
    });
  }
  const present = new Map(
    newestOfEach(turn.stated).flatMap((override) => (override.terms ? [[override.id, override]] : [])),
  );
  const after = [...wanted.values()].map((override) => {
    const before = present.get(override.id);
    return before !== undefined && isSame(before, override) ? before : override;
  });
  const kept = mode === 'merge' ? [...present.values()].filter(({ id }) => !wanted.has(id)) : [];
  const priced = (override: Override): Priced => pricedOverride(override, nowMs);
  const diff = diffOf([...present.values()].map(priced), [...kept, ...after].map(priced));
  const fresh = after.filter((override) => !present.has(override.id) || override.revision === Number(next));
  const gone = mode === 'merge' ? [] : [...present.values()].filter(({ id }) => !wanted.has(id));
  const rows = [...fresh, ...gone.map((override) => removal(override, next, by, nowMs))];
  const isApplied = !isDryRun && rows.length > 0;
  const shown = shownDiff(diff, turn.book, turn, isDryRun, isApplied ? turn.book : null);
  if (isApplied) {
    await append(turn, 'import', rows, by);
    await auditImport(turn, shown);
  }
  return shown;
}

async function importBook(
  turn: Turn,
  current: Book | null,
  isDryRun: boolean,
  by: OperatorContext,
): Promise<PriceDiff> {
  const document = await packageBook();
  if (current?.name !== turn.book)
    throw new AppError('conflict', 'The price book has just changed; try again.');
  const fresh = current.name === document.name ? current : compileBook(document);
  const diff = diffOf(pricedBook(current), pricedBook(fresh));
  const isApplied = !isDryRun && document.name !== turn.book;
  const shown = shownDiff(diff, turn.book, turn, isDryRun, isApplied ? document.name : null);
  if (isApplied) {
    const content = documentText(document);
    await insertBook(turn.tx, { name: document.name, content, contentHash: shortHash(content) });
    await append({ ...turn, book: document.name }, 'import', [], by);
    await auditImport(turn, shown);
  }
  return shown;
}

/** @param appliedBook the book in force after the import, null where nothing was applied */
function shownDiff(
  diff: DiffParts,
  bookBefore: string,
  turn: Turn,
  isDryRun: boolean,
  appliedBook: string | null,
): PriceDiff {
  const before = versionOf(bookBefore, turn.revision);
  return {
    object: 'price_diff',
    dry_run: isDryRun,
    price_version_before: before,
    price_version: appliedBook === null ? before : versionOf(appliedBook, turn.revision + 1n),
    ...diff,
  };
}

async function append(
  turn: Turn,
  kind: 'override' | 'removal' | 'import',
  overrides: readonly Override[],
  by: OperatorContext,
): Promise<void> {
  const revision = turn.revision + 1n;
  await insertRevision(turn.tx, { revision, book: turn.book, kind, createdBy: by.operator });
  if (overrides.length > 0) await insertOverrides(turn.tx, overrides.map(rowOf));
  await updateState(turn.tx, { revision, book: turn.book });
}

function auditedOverride({ target, provider, model, terms, validFromMs, note }: Override) {
  return { target, provider, model, terms, valid_from: new Date(validFromMs).toISOString(), note };
}

/** An import may change thousands of prices: the audit keeps which version it made of which, the book the rest. */
async function auditImport(turn: Turn, diff: PriceDiff): Promise<void> {
  await turn.tx.audit({
    action: 'prices.import',
    resource: { type: 'price_list', id: diff.price_version },
    before: { price_version: diff.price_version_before },
    after: {
      price_version: diff.price_version,
      added: diff.added_count,
      changed: diff.changed_count,
      removed: diff.removed_count,
    },
  });
}

function statement(body: PriceOverride, revision: bigint, by: OperatorContext, nowMs: number): Override {
  const subject = subjectOf(body);
  return {
    ...subject,
    id: priceIdOf(subject, 'override'),
    revision: Number(revision),
    terms: termsOf(body),
    validFromMs: body.valid_from === undefined ? nowMs : Date.parse(body.valid_from),
    note: body.note ?? null,
    createdBy: by.operator,
  };
}

/** From now on, also in place of what is stated for later: the newest statement that is valid already counts. */
function removal(stated: Override, revision: bigint, by: OperatorContext, nowMs: number): Override {
  return {
    ...stated,
    revision: Number(revision),
    terms: null,
    validFromMs: nowMs,
    note: null,
    createdBy: by.operator,
  };
}

function rowOf(override: Override): OverrideRow {
  return {
    revision: BigInt(override.revision),
    price_id: override.id,
    target: override.target,
    provider: override.provider,
    model: override.model,
    terms: override.terms === null ? null : canonicalText(override.terms),
    valid_from: new Date(override.validFromMs),
    note: override.note,
    created_by: override.createdBy,
  };
}

function newestOf(stated: readonly Override[], id: string): Override | null {
  return newestOfEach(stated.filter((override) => override.id === id))[0] ?? null;
}

function newestOfEach(stated: readonly Override[]): Override[] {
  const newest = new Map<string, Override>();
  for (const override of stated) {
    const other = newest.get(override.id);
    if (other === undefined || other.revision < override.revision) newest.set(override.id, override);
  }
  return [...newest.values()];
}

/** Whether what is stated already says what is wanted, by the time from which it is wanted. */
function isSame(present: Override, wanted: Override): boolean {
  return (
    present.validFromMs <= wanted.validFromMs && canonicalText(present.terms) === canonicalText(wanted.terms)
  );
}

function pricedOverride(override: Override, nowMs: number): Priced {
  const { id, target, provider, model, terms, validFromMs } = override;
  const later = validFromMs > nowMs ? { valid_from: new Date(validFromMs).toISOString() } : {};
  return { id, target, provider, model, prices: { ...terms, ...later } };
}

function pricedBook(book: Book): Priced[] {
  const entries = new Map<string, Priced>();
  for (const entry of book.entries) {
    const { provider, model } = entry;
    const prices = shownEntry(entry, book.name).map(({ rates, tiers, constraint }) => ({
      rates,
      tiers,
      constraint,
    }));
    const id = priceIdOf({ target: null, provider, model }, 'package');
    entries.set(id, { id, target: null, provider, model, prices });
  }
  return [...entries.values()];
}

function versionOf(book: string, revision: bigint): string {
  return `${book}+${revision}`;
}

function required(shown: ShownPrice | null): ShownPrice {
  if (shown === null) throw new AppError('internal_error', 'The price could not be read back.');
  return shown;
}
