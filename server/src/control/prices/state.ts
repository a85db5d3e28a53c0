import type { Database, SystemHandle } from '#db';
import { AppError, type Clock, type HealthPart, type Lifecycle, type Logger } from '#kernel';
import { type Book, compileBook } from './book.ts';
import { bookDocument, documentText, shortHash } from './book-document.ts';
import { readyOverride } from './overrides.ts';
import { packageBook } from './package-book.ts';
import { createPriceList, type PriceList } from './price-list.ts';
import {
  insertBook,
  insertRevision,
  lockState,
  selectBook,
  selectOverrides,
  selectState,
  updateState,
} from './prices.sql.ts';
import { overrideOf } from './rows.ts';

/**
 * What this process knows of prices. The first process on an empty database keeps its package's price data as the book in
 * force; from then on the database says which book is in force, and a newer package changes nothing until the operator
 * imports it, so that two versions of Stoa side by side price alike. With the database away at start, the package's own
 * data applies until it is back.
 */
export interface PriceState {
  current(): PriceList | null;
  /** Reads the state where its revision is another than the one known, or always. Concurrent calls follow each other. */
  reload(when: 'if-changed' | 'always'): Promise<void>;
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
}

export interface PriceStateDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
}

export function createPriceState(deps: PriceStateDeps, pollEveryMs: number): PriceState {
  const { db, logger } = deps;
  let list: PriceList | null = null;
  let isHealthy = true;
  let isStopped = true;
  let timer: NodeJS.Timeout | undefined;
  let reloading: Promise<void> = Promise.resolve();

  const reload = (when: 'if-changed' | 'always'): Promise<void> => {
    const load = async (): Promise<void> => {
      const loaded = await loadList(db, list, when);
      if (loaded === null) return;
      list = loaded;
      logger.info({ price_version: list.version, overrides: list.overrides.length }, 'prices loaded');
    };
    reloading = reloading.then(load, load);
    return reloading;
  };
  const poll = async (): Promise<void> => {
    try {
      await reload('if-changed');
      isHealthy = true;
    } catch (error) {
      // Once for each outage: a line every second would bury what matters.
      if (isHealthy) logger.warn({ error }, 'changes of prices cannot be read; the known prices apply');
      isHealthy = false;
    }
    if (!isStopped) timer = setTimeout(() => void poll(), pollEveryMs);
  };
  return {
    current: () => list,
    reload,
    health: { name: 'prices', isHealthy: () => isHealthy },
    lifecycle: {
      async start() {
        isStopped = false;
        const own = await packageBook();
        list = createPriceList(compileBook(own), 0, []);
        await poll();
        const inForce = list.book.name;
        if (inForce === own.name) return;
        logger.info(
          { in_force: inForce, installed: own.name },
          'other price data is installed; import it to use it',
        );
      },
      async stop() {
        isStopped = true;
        clearTimeout(timer);
        await reloading.catch(() => undefined);
      },
    },
  };
}

/** The list in force, or null where it is the known one and that is enough. */
async function loadList(
  db: Database,
  known: PriceList | null,
  when: 'if-changed' | 'always',
): Promise<PriceList | null> {
  return db.withSystem('prices', async (tx) => {
    const state = await selectState(tx);
    const bookName = state.book ?? (await seed(tx));
    if (when === 'if-changed' && isKnown(known, state.revision, bookName)) return null;
    const book = known?.book.name === bookName ? known.book : await loadBook(tx, bookName);
    const rows = await selectOverrides(tx, state.revision);
    return createPriceList(
      book,
      Number(state.revision),
      rows.map((row) => readyOverride(overrideOf(row))),
    );
  });
}

function isKnown(list: PriceList | null, revision: bigint, book: string): boolean {
  return list !== null && list.revision === Number(revision) && list.book.name === book;
}

/** Keeps the installed price data as the first book; of several processes at once the first one's counts. */
async function seed(tx: SystemHandle): Promise<string> {
  const state = await lockState(tx);
  if (state.book !== null) return state.book;
  const document = await packageBook();
  const content = documentText(document);
  await insertBook(tx, { name: document.name, content, contentHash: shortHash(content) });
  await insertRevision(tx, {
    revision: state.revision,
    book: document.name,
    kind: 'seed',
    createdBy: 'system:set-up',
  });
  await updateState(tx, { revision: state.revision, book: document.name });
  return document.name;
}

/** The book of that name: the installed one where it is the same, else the kept one. */
async function loadBook(tx: SystemHandle, name: string): Promise<Book> {
  const own = await packageBook();
  if (own.name === name) return compileBook(own);
  const row = await selectBook(tx, name);
  const kept =
    row && row.content_hash === shortHash(row.content)
      ? bookDocument.safeParse(JSON.parse(row.content))
      : null;
  if (kept?.success) return compileBook(kept.data);
  throw new AppError('internal_error', 'The price book in force cannot be read.');
}
