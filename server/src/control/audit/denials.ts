import { hash } from 'node:crypto';
import { type Database, isDataFault, storableText } from '#db';
import type { Denied } from '#http';
import {
  actorOf,
  type AppError,
  type Lifecycle,
  type Logger,
  type Principal,
  type TenantPrincipal,
} from '#kernel';
import { claimMinute, type DeniedValues, insertDenied, untilNextMinute } from './audit.sql.ts';
import type { AuditMetrics } from './metrics.ts';

/**
 * Denied acts of known principals: in a minute one entry for each principal (of tokens: each member and end user) and permission, with how often. Counted in
 * memory and written once a minute and at the end, so that somebody who is denied ten thousand times a second costs one row.
 *
 * One entry over all processes: nobody may change an entry, so a process claims the minute of a principal and permission
 * (`platform.denied_minutes`) in the transaction that writes its entry. Who comes second keeps the count and tries first thing
 * in the next minute, where it goes before those that write later in theirs; so a count is in an entry after about as many
 * minutes as there are processes with counts of the same, and none is lost. A process that ends writes what it holds without
 * asking, so the minute of an end can have one entry more.
 *
 * A process that is killed loses the counts it holds; what had an effect is never here. Whoever has no principal
 * (a wrong key) is a metric of the edge and of access, and never an entry, so garbage can't flood the audit.
 */
export interface Denials {
  note(denied: Denied): void;
  /** A key or token that was shown to be right, and that was refused all the same. */
  noteRefused(refused: RefusedKey): void;
  /** Writes what was counted. Never rejects: what can't be written is kept for the next time. */
  flush(): Promise<void>;
  readonly lifecycle: Lifecycle;
}

export interface RefusedKey {
  readonly principal: Principal;
  readonly error: AppError;
  readonly clientAddress: string | null;
}

export interface DenialsDeps {
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
  readonly metrics: AuditMetrics;
}

const flushEveryMs = 60_000;
/** So that the database's minute has surely turned. */
const afterTheTurnMs = 50;
/** Principals times permissions in a minute; about 300 bytes each. What is over is counted in a metric. */
const maximumHeld = 10_000;
/** Of one tenant, so that none takes the places of the others; and of the operator. */
const maximumOfOne = 500;
const rowsAtOnce = 1_000;
const userAgentCharacters = 256;
const textCharacters = 128;
const subjectCharacters = 512;
const largestCount = 2_147_483_647;

type Counted = { -readonly [Name in keyof DeniedValues]: DeniedValues[Name] } & {
  /** Who of those that share the actor's id and have no member; null where there is one of it only. */
  readonly subject: string | null;
};

export function createDenials({ db, logger, metrics }: DenialsDeps): Denials {
  const held = createHeld(metrics);
  let flushing: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  const write = async (isLast: boolean): Promise<void> => {
    const later: Counted[] = [];
    // The last is the next. What the database refuses for its values is halved until it is known which one it is.
    const batches = batchesOf(held.take()).reverse();
    for (let batch = batches.pop(); batch !== undefined; batch = batches.pop()) {
      const rows = batch;
      try {
        later.push(...(await writeRows(db, rows, isLast)));
      } catch (error) {
        if (!isDataFault(error)) {
          const waiting = [later, rows, ...batches.reverse()].flat();
          metrics.failedFlushes.add(1);
          logger.warn({ err: error, entries: waiting.length }, 'denied acts wait to be written');
          held.putBack(waiting);
          return;
        }
        if (rows.length > 1) batches.push(...halvesOf(rows).reverse());
        else for (const one of rows) drop({ logger, metrics }, one, error);
      }
    }
    if (later.length === 0) return;
    held.putBack(later);
    if (timer !== undefined) await nextMinute.wait();
  };
  const flush = (isLast = false): Promise<void> => {
    flushing = flushing.then(() => write(isLast));
    return flushing;
  };
  const flushByTimer = (): void => {
    flush().catch((error: unknown) => logger.error({ err: error }, 'denied acts could not be written'));
  };
  const nextMinute = createNextMinute(db, flushByTimer);
  return {
    note: (denied) => held.count(countedOf(denied)),
    noteRefused: (refused) => held.count(countedRefusal(refused)),
    flush: () => flush(),
    lifecycle: {
      async start() {
        timer ??= setInterval(flushByTimer, flushEveryMs).unref();
      },
      async stop() {
        clearInterval(timer);
        timer = undefined;
        nextMinute.stop();
        await flush(true);
      },
    },
  };
}

function drop(
  { logger, metrics }: Pick<DenialsDeps, 'logger' | 'metrics'>,
  one: Counted,
  error: unknown,
): void {
  metrics.refusedDenials.add(one.times);
  const { tenantId, actorId, action, times } = one;
  const about = { err: error, tenantId, actorId, action, times };
  logger.error(about, 'a denied act could not be written and was dropped');
}

/**
 * Writes what nobody else has written in this minute, and answers the others.
 * @param isLast whether there is no next minute: then all are written
 */
async function writeRows(
  db: DenialsDeps['db'],
  rows: readonly Counted[],
  isLast: boolean,
): Promise<readonly Counted[]> {
  return db.withSystem('audit', async (tx) => {
    if (isLast) {
      await insertDenied(tx, rows);
      return [];
    }
    const claimed = await claimMinute(tx, rows.map(digestOf));
    const isClaimed = (one: Counted): boolean => claimed.has(digestOf(one));
    await insertDenied(tx, rows.filter(isClaimed));
    return rows.filter((one) => !isClaimed(one));
  });
}

/** Calls `onTurn` once when the next minute of the database begins, however often it is asked to wait until then. */
function createNextMinute(
  db: DenialsDeps['db'],
  onTurn: () => void,
): { wait(): Promise<void>; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  return {
    async wait() {
      if (timer !== undefined) return;
      const waitMs = await db.withSystem('audit', untilNextMinute).catch(() => flushEveryMs);
      if (isStopped) return;
      timer ??= setTimeout(() => {
        timer = undefined;
        onTurn();
      }, waitMs + afterTheTurnMs).unref();
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

function batchesOf(counted: readonly Counted[]): (readonly Counted[])[] {
  const batches: (readonly Counted[])[] = [];
  for (let start = 0; start < counted.length; start += rowsAtOnce) {
    batches.push(counted.slice(start, start + rowsAtOnce));
  }
  return batches;
}

function halvesOf(rows: readonly Counted[]): (readonly Counted[])[] {
  const middle = Math.ceil(rows.length / 2);
  return [rows.slice(0, middle), rows.slice(middle)];
}

/** Who and what: the same in every process. */
function keyOf({ tenantId, actorType, actorId, memberId, subject, action }: Counted): string {
  return JSON.stringify([tenantId, actorType, actorId, memberId, subject, action]);
}

function digestOf(one: Counted): string {
  return hash('sha256', keyOf(one));
}

/** What is counted until the next writing, each principal and permission once. */
function createHeld(metrics: AuditMetrics) {
  let held = new Map<string, Counted>();
  /** Tenant (empty for the operator) -> how many of `held` are its. */
  let ofTenants = new Map<string, number>();
  const keep = (one: Counted): void => {
    const { tenantId } = one;
    const key = keyOf(one);
    const same = held.get(key);
    if (same !== undefined) {
      const { times, ...latest } = one;
      Object.assign(same, latest, { times: Math.min(same.times + times, largestCount) });
      return;
    }
    const tenant = tenantId ?? '';
    const ofTenant = ofTenants.get(tenant) ?? 0;
    if (held.size >= maximumHeld || ofTenant >= maximumOfOne) {
      metrics.droppedDenials.add(one.times);
      return;
    }
    held.set(key, one);
    ofTenants.set(tenant, ofTenant + 1);
  };
  return {
    count(one: Counted): void {
      metrics.denials.add(1);
      keep(storable(one));
    },
    take(): readonly Counted[] {
      const taken = [...held.values()];
      held = new Map();
      ofTenants = new Map();
      return taken;
    },
    /** What came since they were taken is newer: it keeps its address and request. */
    putBack(older: readonly Counted[]): void {
      const newer = [...held.values()];
      held = new Map();
      ofTenants = new Map();
      for (const one of [...older, ...newer]) keep(one);
    },
  };
}

/** Outside issuers name tokens as they like, and clients themselves: as the database can hold it, and not much of it. */
function storable(one: Counted): Counted {
  const short = (text: string): string => storableText(text, textCharacters);
  const shortOrNone = (text: string | null): string | null => (text === null ? null : short(text));
  return {
    ...one,
    actorId: short(one.actorId),
    memberId: shortOrNone(one.memberId),
    tokenId: shortOrNone(one.tokenId),
    endUser: one.endUser === null ? null : storableText(one.endUser, subjectCharacters),
    subject: one.subject === null ? null : storableText(one.subject, subjectCharacters),
    action: short(one.action),
    about: { type: short(one.about.type), id: short(one.about.id) },
    clientAddress: shortOrNone(one.clientAddress),
    userAgent: one.userAgent === null ? null : storableText(one.userAgent, userAgentCharacters),
    requestId: shortOrNone(one.requestId),
  };
}

function whoOf(principal: Principal) {
  if (principal.kind === 'operator') {
    const { keyId: actorId, role: actorRole } = principal;
    const none = { tenantId: null, memberId: null, tokenId: null, endUser: null, subject: null };
    return { ...none, actorType: 'operator', actorId, actorRole };
  }
  const { type: actorType, id: actorId, role: actorRole, memberId, tokenId } = actorOf(principal);
  return {
    tenantId: principal.tenantId,
    actorType,
    actorId,
    actorRole,
    memberId: memberId ?? null,
    tokenId: tokenId ?? null,
    endUser: principal.endUser ?? null,
    subject: subjectOf(principal),
  };
}

/** All tokens of an outside issuer have its id: one that names neither a member nor an end user stands for itself. */
function subjectOf({ keyId, memberId, endUser, tokenId }: TenantPrincipal): string | null {
  const isAlone = endUser === undefined && memberId === undefined && keyId.startsWith('isr_');
  return endUser ?? (isAlone ? (tokenId ?? null) : null);
}

function countedOf({ principal, endpointId, permission, context }: Denied): Counted {
  return {
    ...whoOf(principal),
    action: permission ?? endpointId,
    about: { type: 'operation', id: endpointId },
    times: 1,
    clientAddress: context.clientAddress,
    userAgent: context.userAgent,
    requestId: context.publicRequestId,
  };
}

function countedRefusal({ principal, error, clientAddress }: RefusedKey): Counted {
  return {
    ...whoOf(principal),
    action: 'authenticate',
    about: { type: 'refusal', id: error.code },
    times: 1,
    clientAddress,
    userAgent: null,
    requestId: null,
  };
}
