import type { operatorPolicy, tenantPolicy } from '@stoa/contracts';
import type { z } from 'zod';
import type { Database, OperatorContext } from '#db';
import { appendEvents, changedFields, controlChanged, type TypedEvent } from '#events';
import { AppError, requireVersion, type TenantActing, type TenantId, toTypeId } from '#kernel';
import type { Target } from '#models';
import { type Catalog, chatTargets } from './catalog.ts';
import {
  lockOwnPolicy,
  type PolicyRow,
  selectOwnPolicy,
  selectPolicy,
  selectRecentPolicies,
  updateOwnPolicy,
} from './policies.sql.ts';
import { lockState, selectState, type StateRow, updateDefaultOrder } from './registry.sql.ts';
import type { TargetPolicy } from './types.ts';

/**
 * Which targets a tenant uses, and in which order `auto` tries them. Policies are kept in memory by tenant, the least
 * recently used out; a change made here is in memory before its answer goes out, one made elsewhere comes by a push where
 * the processes share a Redis, and by a poll that looks back over a window longer than any transaction may last.
 */
const maximumKnownPolicies = 20_000;
const windowMs = 60_000;
/** After so long without a good poll, what is remembered may have been missed by the window. */
const forgetAfterMs = 45_000;

interface KnownPolicy {
  readonly version: number;
  readonly order: readonly string[];
  readonly allowed: ReadonlySet<string> | null;
  /** For one catalog; made again for the next. */
  computed: { readonly catalog: Catalog; readonly policy: TargetPolicy } | null;
}

export interface PolicyStore {
  policyFor(tenantId: TenantId): TargetPolicy | Promise<TargetPolicy>;
  poll(): Promise<void>;
  /** Reads a tenant's policy that is said to have this version, where an older one is remembered. */
  readChange(tenantId: string, version: number): Promise<void>;
  readTenant(tenantId: TenantId): Promise<z.infer<typeof tenantPolicy>>;
  replaceTenant(
    acting: TenantActing,
    values: { order: readonly string[]; allowed: readonly string[] | null },
    ifMatch: string | null,
  ): Promise<z.infer<typeof tenantPolicy>>;
  readOperator(by: OperatorContext): Promise<z.infer<typeof operatorPolicy>>;
  replaceOperator(
    by: OperatorContext,
    order: readonly string[],
    ifMatch: string | null,
  ): Promise<z.infer<typeof operatorPolicy>>;
}

export interface PolicyStoreDeps {
  readonly db: Database;
  readonly monotonicMs: () => number;
  catalog(): Catalog;
  /** Called after the operator's order was changed, awaited before the answer goes out. */
  readonly onOperatorOrder: () => Promise<void>;
  /** Called after the commit of a change of a tenant's policy. Must not throw. */
  readonly onTenantPolicy: (tenantId: TenantId, version: number) => void;
}

export function createPolicyStore(deps: PolicyStoreDeps): PolicyStore {
  return new Policies(deps);
}

class Policies implements PolicyStore {
  readonly #deps: PolicyStoreDeps;
  readonly #known = new Map<string, KnownPolicy>();
  readonly #pending = new Map<string, Promise<TargetPolicy>>();
  #lastPollMs: number;

  constructor(deps: PolicyStoreDeps) {
    this.#deps = deps;
    this.#lastPollMs = deps.monotonicMs();
  }

  #remember(tenantId: string, row: PolicyRow | undefined): KnownPolicy {
    const version = Number(row?.version ?? 0n);
    const held = this.#known.get(tenantId);
    if (held && held.version >= version) return held;
    const allowed = row?.allowed ?? null;
    const entry: KnownPolicy = {
      version,
      order: row ? parseTargets(row.target_order) : [],
      allowed: allowed === null ? null : new Set(parseTargets(allowed)),
      computed: null,
    };
    this.#known.delete(tenantId);
    this.#known.set(tenantId, entry);
    const oldest = this.#known.size > maximumKnownPolicies ? this.#known.keys().next().value : undefined;
    if (oldest !== undefined) this.#known.delete(oldest);
    return entry;
  }

  #resolve(entry: KnownPolicy): TargetPolicy {
    const catalog = this.#deps.catalog();
    if (entry.computed?.catalog !== catalog) entry.computed = { catalog, policy: policyOf(catalog, entry) };
    return entry.computed.policy;
  }

  async #lookUp(tenantId: TenantId): Promise<TargetPolicy> {
    try {
      const row = await this.#deps.db.withSystem('policies', (tx) => selectPolicy(tx, tenantId));
      return this.#resolve(this.#remember(tenantId, row));
    } finally {
      this.#pending.delete(tenantId);
    }
  }

  policyFor(tenantId: TenantId): TargetPolicy | Promise<TargetPolicy> {
    const entry = this.#known.get(tenantId);
    if (entry) {
      // Order of use is kept only where it can matter: while the map is far from full nothing is evicted.
      if (this.#known.size > maximumKnownPolicies / 2) {
        this.#known.delete(tenantId);
        this.#known.set(tenantId, entry);
      }
      return this.#resolve(entry);
    }
    const running = this.#pending.get(tenantId) ?? this.#lookUp(tenantId);
    if (!this.#known.has(tenantId)) this.#pending.set(tenantId, running);
    return running;
  }

  async poll(): Promise<void> {
    const rows = await this.#deps.db.withSystem('policies', (tx) => selectRecentPolicies(tx, windowMs));
    const now = this.#deps.monotonicMs();
    if (now - this.#lastPollMs > forgetAfterMs) this.#known.clear();
    this.#lastPollMs = now;
    for (const row of rows) if (this.#known.has(row.tenant_id)) this.#remember(row.tenant_id, row);
  }

  async readChange(tenantId: string, version: number): Promise<void> {
    const known = this.#known.get(tenantId);
    if (!known || known.version >= version) return;
    const row = await this.#deps.db.withSystem('policies', (tx) => selectPolicy(tx, tenantId));
    if (this.#known.has(tenantId)) this.#remember(tenantId, row);
  }

  async readTenant(tenantId: TenantId): Promise<z.infer<typeof tenantPolicy>> {
    const row = await this.#deps.db.withTenant({ tenantId }, (tx) => selectOwnPolicy(tx, tenantId));
    return tenantObject(row, this.#deps.catalog());
  }

  async replaceTenant(
    acting: TenantActing,
    values: { order: readonly string[]; allowed: readonly string[] | null },
    ifMatch: string | null,
  ): Promise<z.infer<typeof tenantPolicy>> {
    const { tenantId } = acting;
    const { entries } = this.#deps.catalog();
    requireTargets('order', values.order, (id) => entries.get(id)?.target, 'chat');
    const allowed = values.allowed;
    if (allowed !== null) {
      requireTargets('allowed', allowed, (id) => entries.get(id)?.target, null);
      requireAllowed(values.order, new Set(allowed));
    }
    const row = await this.#deps.db.withTenant(acting, async (tx) => {
      const found = await lockOwnPolicy(tx, tenantId);
      requireVersion(ifMatch, Number(found.version));
      const changed = await updateOwnPolicy(tx, tenantId, {
        order: JSON.stringify(values.order),
        allowed: allowed === null ? null : JSON.stringify(allowed),
      });
      await appendEvents(tx, [policyTold(found, changed, acting.actor)]);
      await tx.audit({
        action: 'policy.replace',
        resource: { type: 'policy', id: toTypeId('ten', tenantId) },
        ...(found.version === 0n ? {} : { before: auditedPolicy(found) }),
        after: auditedPolicy(changed),
      });
      return changed;
    });
    this.#remember(tenantId, row);
    this.#deps.onTenantPolicy(tenantId, Number(row.version));
    return tenantObject(row, this.#deps.catalog());
  }

  async readOperator(by: OperatorContext): Promise<z.infer<typeof operatorPolicy>> {
    const row = await this.#deps.db.withOperator(by, 'policy.read', (tx) => selectState(tx));
    return operatorObject(row, this.#deps.catalog());
  }

  async replaceOperator(
    by: OperatorContext,
    order: readonly string[],
    ifMatch: string | null,
  ): Promise<z.infer<typeof operatorPolicy>> {
    const { entries } = this.#deps.catalog();
    requireTargets('order', order, (id) => entries.get(id)?.target, 'chat');
    const row = await this.#deps.db.withOperator(by, 'policy.replace', async (tx) => {
      const found = await lockState(tx);
      requireVersion(ifMatch, Number(found.policy_version));
      const changed = await updateDefaultOrder(tx, JSON.stringify(order));
      await tx.audit({
        action: 'operator_policy.replace',
        resource: { type: 'policy', id: 'operator' },
        before: auditedOrder(found),
        after: auditedOrder(changed),
      });
      return changed;
    });
    await this.#deps.onOperatorOrder();
    return operatorObject(row, this.#deps.catalog());
  }
}

/** `control.changed.v1` of a tenant's policy, which has the tenant's id; the first setting makes it. */
function policyTold(
  before: PolicyRow,
  after: PolicyRow,
  by: { readonly type: string; readonly id: string },
): TypedEvent {
  const { tenant_id: tenantId, changed_at: changedAt } = after;
  const fields = (row: PolicyRow) => ({ order: row.target_order, allowed: row.allowed });
  const isNew = before.version === 0n;
  return controlChanged(
    { tenantId, changedAt },
    {
      resource: 'policy',
      resource_id: tenantId,
      change: isNew ? 'created' : 'changed',
      version: Number(after.version),
      state: null,
      name: null,
      changed_fields: isNew ? [] : changedFields(fields(before), fields(after)),
      changed_by: `${by.type}:${by.id}`,
    },
  );
}

function auditedPolicy(row: PolicyRow) {
  const allowed = row.allowed === null ? null : parseTargets(row.allowed);
  return { order: parseTargets(row.target_order), allowed, version: Number(row.version) };
}

function auditedOrder(row: StateRow) {
  return { order: parseTargets(row.default_order), version: Number(row.policy_version) };
}

/** A JSON array of strings from the database; anything else counts as empty. */
export function parseTargets(text: string): string[] {
  const value: unknown = JSON.parse(text);
  return Array.isArray(value) ? value.filter((id): id is string => typeof id === 'string') : [];
}

function policyOf(catalog: Catalog, known: Pick<KnownPolicy, 'order' | 'allowed'>): TargetPolicy {
  const { order, allowed } = known;
  const preferred = order.length > 0 ? chatTargets(catalog.entries, order) : catalog.chatOrder;
  if (allowed === null) return { chatOrder: preferred, isAllowed: () => true };
  const isAllowed = (target: Target): boolean => allowed.has(target.id);
  // A tenant that allows what the default order leaves out, and sets no order, means its own list as the order.
  const usable = preferred.filter(isAllowed);
  return { chatOrder: usable.length > 0 ? usable : chatTargets(catalog.entries, [...allowed]), isAllowed };
}

function requireTargets(
  param: string,
  ids: readonly string[],
  find: (id: string) => Target | undefined,
  kind: Target['kind'] | null,
): void {
  for (const [index, id] of ids.entries()) {
    const target = find(id);
    const at = `${param}[${index}]`;
    if (!target)
      throw new AppError('invalid_request', `${at}: there is no target of this name.`, { param: at });
    if (kind !== null && target.kind !== kind) {
      throw new AppError('invalid_request', `${at}: the target is no chat model.`, { param: at });
    }
  }
}

function requireAllowed(order: readonly string[], allowed: ReadonlySet<string>): void {
  const index = order.findIndex((id) => !allowed.has(id));
  if (index === -1) return;
  const param = `order[${index}]`;
  throw new AppError('invalid_request', `${param}: the target is not among those allowed.`, { param });
}

function tenantObject(row: PolicyRow | undefined, catalog: Catalog): z.infer<typeof tenantPolicy> {
  const order = row ? parseTargets(row.target_order) : [];
  const allowedText = row?.allowed ?? null;
  const allowed = allowedText === null ? null : parseTargets(allowedText);
  const inEffect = policyOf(catalog, { order, allowed: allowed === null ? null : new Set(allowed) });
  return {
    object: 'policy',
    order,
    allowed,
    in_effect: inEffect.chatOrder.map((target) => target.id),
    version: Number(row?.version ?? 0n),
    updated_at: row?.changed_at.toISOString() ?? null,
  };
}

function operatorObject(row: StateRow, catalog: Catalog): z.infer<typeof operatorPolicy> {
  return {
    object: 'policy',
    order: parseTargets(row.default_order),
    in_effect: catalog.chatOrder.map((target) => target.id),
    version: Number(row.policy_version),
    updated_at: row.policy_changed_at?.toISOString() ?? null,
  };
}
