import type { KeyPolicyBody, KeyPolicyObject } from '@stoa/contracts';
import type { Database } from '#db';
import { appendEvents, changedFields, controlChanged, type TypedEvent } from '#events';
import { AppError, type Clock, requireVersion, toTypeId } from '#kernel';
import { actOf, type KeyCaller, requireTenant, shownCaller, throughDoor } from '../caller.ts';
import { type KeyPolicyRow, lockKeyPolicy, selectKeyPolicy, updateKeyPolicy } from './key-policy.sql.ts';
import { countKeys, type KeyFilter, type KeyHandle } from './keys.sql.ts';

/**
 * How long a tenant's keys may live. A key's life begins with its secret: when it was made, or last rotated. The policy is
 * asked wherever a key's end is set, the operator's calls among them; keys that are there already go on, and are counted
 * and listed, so that a policy can be tightened without an outage.
 */
export interface KeyPolicyStore {
  /** Errors: `not_found`. */
  read(caller: KeyCaller): Promise<KeyPolicyObject>;
  /** Errors: `not_found`, `version_conflict`; the version of what was never set is 0. */
  replace(caller: KeyCaller, body: KeyPolicyBody, ifMatch: string | null): Promise<KeyPolicyObject>;
}

const dayMs = 24 * 60 * 60 * 1000;

export function createKeyPolicyStore({ db, clock }: { db: Database; clock: Clock }): KeyPolicyStore {
  return {
    async read(caller) {
      return throughDoor(db, caller, 'tenant_key_policy.read', async (tx, tenantId) => {
        await requireTenant(tx, tenantId);
        return policyObject(tx, tenantId, await selectKeyPolicy(tx, tenantId), clock.now());
      });
    },

    async replace(caller, body, ifMatch) {
      const values = { maxLifetimeDays: body.max_lifetime_days, allowNoExpiry: body.allow_no_expiry };
      return throughDoor(db, caller, 'tenant_key_policy.replace', async (tx, tenantId) => {
        await requireTenant(tx, tenantId);
        const found = await lockKeyPolicy(tx, tenantId);
        requireVersion(ifMatch, Number(found.version));
        const changed = await updateKeyPolicy(tx, tenantId, values);
        await appendEvents(tx, [policyTold(found, changed, shownCaller(caller))]);
        await tx.audit({
          action: actOf(caller, 'key_policy.replace'),
          resource: { type: 'key_policy', id: toTypeId('ten', tenantId) },
          ...(found.version === 0n ? {} : { before: auditedPolicy(found) }),
          after: auditedPolicy(changed),
        });
        return policyObject(tx, tenantId, changed, clock.now());
      });
    },
  };
}

/**
 * Holds the end of a key to its tenant's policy.
 * @param bornAt when its secret was or is made
 * @throws AppError `key_lifetime_exceeded`
 */
export async function requireLifetime(
  tx: KeyHandle,
  tenantId: string,
  bornAt: Date,
  expiresAt: Date | null,
): Promise<void> {
  const policy = await selectKeyPolicy(tx, tenantId);
  if (policy === undefined) return;
  const { max_lifetime_days: days, allow_no_expiry: allowNoExpiry } = policy;
  if (days === null) {
    if (expiresAt === null && !allowNoExpiry)
      throw exceeded('expires_at: the key policy asks every key to expire.');
    return;
  }
  const latest = new Date(bornAt.getTime() + days * dayMs);
  if (expiresAt === null ? allowNoExpiry : expiresAt <= latest) return;
  throw exceeded(
    `expires_at: the key policy allows ${days} days from when a key is made or rotated, here until ${latest.toISOString()}.`,
  );
}

/** The keys that live longer than the policy allows; null where it allows everything. */
export async function beyondPolicy(tx: KeyHandle, tenantId: string, now: Date): Promise<KeyFilter | null> {
  return filterOf(await selectKeyPolicy(tx, tenantId), now);
}

function filterOf(policy: KeyPolicyRow | undefined, now: Date): KeyFilter | null {
  if (policy === undefined) return null;
  const { max_lifetime_days: maxLifetimeDays, allow_no_expiry: allowNoExpiry } = policy;
  if (maxLifetimeDays === null && allowNoExpiry) return null;
  return { kind: 'beyond_policy', maxLifetimeDays, allowNoExpiry, now };
}

async function policyObject(
  tx: KeyHandle,
  tenantId: string,
  row: KeyPolicyRow | undefined,
  nowMs: number,
): Promise<KeyPolicyObject> {
  const filter = filterOf(row, new Date(nowMs));
  const version = Number(row?.version ?? 0n);
  return {
    object: 'key_policy',
    max_lifetime_days: row?.max_lifetime_days ?? null,
    allow_no_expiry: row?.allow_no_expiry ?? true,
    keys_beyond: filter === null ? 0 : await countKeys(tx, tenantId, filter),
    version,
    updated_at: version === 0 ? null : (row?.changed_at.toISOString() ?? null),
  };
}

/** `control.changed.v1` of the key policy, which is named by what it is: a tenant has one, beside its routing policy. */
function policyTold(before: KeyPolicyRow, after: KeyPolicyRow, changedBy: string): TypedEvent {
  const { tenant_id: tenantId, changed_at: changedAt } = after;
  const fields = (row: KeyPolicyRow) => ({
    max_lifetime_days: row.max_lifetime_days,
    allow_no_expiry: row.allow_no_expiry,
  });
  const isNew = before.version === 0n;
  return controlChanged(
    { tenantId, changedAt },
    {
      resource: 'key_policy',
      resource_id: tenantId,
      change: isNew ? 'created' : 'changed',
      version: Number(after.version),
      state: null,
      name: null,
      changed_fields: isNew ? [] : changedFields(fields(before), fields(after)),
      changed_by: changedBy,
    },
  );
}

function auditedPolicy(row: KeyPolicyRow) {
  const { max_lifetime_days, allow_no_expiry } = row;
  return { max_lifetime_days, allow_no_expiry, version: Number(row.version) };
}

function exceeded(message: string): AppError {
  return new AppError('key_lifetime_exceeded', message, { param: 'expires_at' });
}
