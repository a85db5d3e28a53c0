import type {
  KeyLimitRule,
  KeyLimitsBody,
  KeyLimitsObject,
  TenantLimitRule,
  TenantLimitsBody,
  TenantLimitsObject,
} from '@stoa/contracts';
import { limitRuleFault } from '#cache';
import { type Database, isForeignKeyViolation, type OperatorContext } from '#db';
import { appendEvents, changedFields, controlChanged, type TypedEvent } from '#events';
import { AppError, requireVersion, type TenantActing, toTypeId } from '#kernel';
import { keyRulesIn, type LimitsBook, tenantRulesIn } from './book.ts';
import {
  hasKeyLimits,
  hasTenant,
  type KeyLimitsRow,
  type LimitsRow,
  lockKeyLimits,
  lockTenantLimits,
  selectKeyLimits,
  selectTenantLimits,
  updateKeyLimits,
  updateTenantLimits,
} from './limits.sql.ts';
import { type CompiledRule, nameOf } from './rules.ts';

/** The operator's limits of tenants, and the tenants' of their keys. What is set holds here when the promise resolves. */
export interface LimitsStore {
  /** Errors: `not_found`. */
  readTenant(by: OperatorContext, tenantId: string): Promise<TenantLimitsObject>;
  /** Errors: `not_found`, `version_conflict`, `invalid_request`; the version of what was never set is 0. */
  replaceTenant(
    by: OperatorContext,
    tenantId: string,
    body: TenantLimitsBody,
    ifMatch: string | null,
  ): Promise<TenantLimitsObject>;
  readOwn(acting: TenantActing): Promise<TenantLimitsObject>;
  /** Errors: `not_found`. */
  readKey(acting: TenantActing, keyId: string): Promise<KeyLimitsObject>;
  /** Errors as of `replaceTenant`; `permission_denied` for a key that has limits itself. */
  replaceKey(
    acting: TenantActing,
    keyId: string,
    body: KeyLimitsBody,
    ifMatch: string | null,
  ): Promise<KeyLimitsObject>;
}

export interface LimitsStoreDeps {
  readonly db: Database;
  readonly book: LimitsBook;
  /** After the commit of a change. Must not throw. */
  readonly onChanged: (tenantId: string, version: number) => void;
}

export function createLimitsStore({ db, book, onChanged }: LimitsStoreDeps): LimitsStore {
  const tenantObject = (row: LimitsRow | undefined): TenantLimitsObject => {
    const rules = tenantRulesIn(row?.rules ?? null);
    return {
      object: 'limits',
      rules: rules && [...rules],
      effective: [...book.rulesOf(rules)],
      ...stampOf(row),
    };
  };
  return {
    async readTenant(by, tenantId) {
      return db.withOperator({ ...by, tenantId }, 'tenant_limits.read', async (tx) => {
        if (!(await hasTenant(tx, tenantId))) throw noSuchTenant();
        return tenantObject(await selectTenantLimits(tx, tenantId));
      });
    },

    async replaceTenant(by, tenantId, body, ifMatch) {
      const rules = body.rules?.map((rule) => ({ ...rule, burst: rule.burst ?? rule.limit })) ?? null;
      if (rules !== null) requireRules(rules, ({ per }) => per);
      const row = await replaceTenantRow(db, { ...by, tenantId }, rules, ifMatch, tenantObject);
      book.put({ ...row, key_id: '' });
      onChanged(tenantId, Number(row.version));
      return tenantObject(row);
    },

    async readOwn(acting) {
      const { tenantId } = acting;
      return db.withTenant(acting, async (tx) => tenantObject(await selectTenantLimits(tx, tenantId)));
    },

    async readKey(acting, keyId) {
      return db.withTenant(acting, async (tx) => {
        const { isKey, row } = await selectKeyLimits(tx, acting.tenantId, keyId);
        if (!isKey) throw noSuchKey();
        return keyObject(keyId, row);
      });
    },

    async replaceKey(acting, keyId, body, ifMatch) {
      const { tenantId } = acting;
      const rules = body.rules.map((rule) => ({ ...rule, burst: rule.burst ?? rule.limit }));
      requireRules(rules, () => 'own');
      const row = await replaceKeyRow(db, acting, keyId, rules, ifMatch).catch((error: unknown) => {
        throw isForeignKeyViolation(error) ? noSuchKey() : error;
      });
      book.put(row);
      onChanged(tenantId, Number(row.version));
      return keyObject(keyId, row);
    },
  };
}

async function replaceTenantRow(
  db: Database,
  by: OperatorContext & { readonly tenantId: string },
  rules: readonly TenantLimitRule[] | null,
  ifMatch: string | null,
  shown: (row: LimitsRow) => TenantLimitsObject,
): Promise<LimitsRow> {
  const { tenantId } = by;
  return db.withOperator(by, 'tenant_limits.replace', async (tx) => {
    if (!(await hasTenant(tx, tenantId))) throw noSuchTenant();
    const found = await lockTenantLimits(tx, tenantId);
    requireVersion(ifMatch, Number(found.version));
    const changed = await updateTenantLimits(tx, tenantId, rules === null ? null : JSON.stringify(rules));
    await appendEvents(tx, [told('limits', tenantId, found, changed, 'operator')]);
    await tx.audit({
      action: 'tenant_limits.replace',
      resource: { type: 'limits', id: toTypeId('ten', tenantId) },
      ...(found.version === 0n ? {} : { before: shown(found) }),
      after: shown(changed),
    });
    return changed;
  });
}

async function replaceKeyRow(
  db: Database,
  acting: TenantActing,
  keyId: string,
  rules: readonly KeyLimitRule[],
  ifMatch: string | null,
): Promise<KeyLimitsRow> {
  const { tenantId, actor } = acting;
  return db.withTenant(acting, async (tx) => {
    // It could loosen another key that is held by the same hands, and so go around its own.
    if (await hasKeyLimits(tx, tenantId, actor.id)) throw limitedKey();
    const found = await lockKeyLimits(tx, tenantId, keyId);
    requireVersion(ifMatch, Number(found.version));
    const changed = await updateKeyLimits(tx, tenantId, keyId, JSON.stringify(rules));
    await appendEvents(tx, [told('key_limits', keyId, found, changed, `key:${actor.id}`)]);
    await tx.audit({
      action: 'key_limits.replace',
      resource: { type: 'key_limits', id: keyId },
      ...(found.version === 0n ? {} : { before: keyObject(keyId, found) }),
      after: keyObject(keyId, changed),
    });
    return changed;
  });
}

/** Each rule by itself was checked at the edge; here, that their numbers fit together and no two are one. */
function requireRules<Rule extends KeyLimitRule>(
  rules: readonly Rule[],
  perOf: (rule: Rule) => TenantLimitRule['per'] | CompiledRule['per'],
): void {
  const names = new Set<string>();
  for (const [index, rule] of rules.entries()) {
    const { limit, period_s: periodS, burst } = rule;
    const fault = limitRuleFault({ limit, periodMs: periodS * 1000, burst });
    if (fault !== null) throw invalidRule(index, fault);
    const name = nameOf(rule, perOf(rule));
    if (names.has(name)) throw invalidRule(index, `there is another limit ${name}`);
    names.add(name);
  }
}

function invalidRule(index: number, fault: string): AppError {
  const param = `rules[${index}]`;
  return new AppError('invalid_request', `${param}: ${fault}.`, { param });
}

interface Stamped {
  readonly version: bigint;
  readonly changed_at: Date;
}

function stampOf(row: Stamped | undefined): { readonly version: number; readonly updated_at: string | null } {
  const version = Number(row?.version ?? 0n);
  return { version, updated_at: version === 0 ? null : (row?.changed_at.toISOString() ?? null) };
}

function keyObject(keyId: string, row: KeyLimitsRow | undefined): KeyLimitsObject {
  return { object: 'key_limits', key_id: keyId, rules: [...keyRulesIn(row?.rules ?? null)], ...stampOf(row) };
}

/** `control.changed.v1`; the first setting makes it. */
function told(
  resource: 'limits' | 'key_limits',
  resourceId: string,
  before: LimitsRow | KeyLimitsRow,
  after: LimitsRow | KeyLimitsRow,
  changedBy: string,
): TypedEvent {
  const isNew = before.version === 0n;
  return controlChanged(
    { tenantId: after.tenant_id, changedAt: after.changed_at },
    {
      resource,
      resource_id: resourceId,
      change: isNew ? 'created' : 'changed',
      version: Number(after.version),
      state: null,
      name: null,
      changed_fields: isNew ? [] : changedFields({ rules: before.rules }, { rules: after.rules }),
      changed_by: changedBy,
    },
  );
}

function limitedKey(): AppError {
  const message = 'A key that has rate limits of its own sets none; use a key without.';
  return new AppError('permission_denied', message);
}

function noSuchTenant(): AppError {
  return new AppError('not_found', 'There is no such tenant.');
}

function noSuchKey(): AppError {
  return new AppError('not_found', 'There is no such key.');
}
