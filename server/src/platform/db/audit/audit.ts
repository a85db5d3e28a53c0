/**
 * The entries of the audit, as the doors write them. Each door knows who came through it, so an entry says only what was
 * done; whoever changes something can't leave out, or make up, who did it.
 *
 * A passage of the operator's door that recorded nothing by itself (a read, say) leaves one entry at its end: no passage
 * of an operator is without one. A tenant's door leaves none by itself: reading one's own is no privileged act.
 */

import { sql } from 'kysely';
import { AppError } from '#kernel';
import type { SystemJob } from '../grants.ts';
import type { NoTables, OperatorContext, TenantContext } from '../types.ts';
import type { Kysely } from 'kysely';
import { redactedJson } from './redact.ts';
import { storableText } from './storable-text.ts';
import type { AuditedAct } from './types.ts';

type Transaction = Kysely<NoTables>;

/** What a client says it is, cut to this many characters. */
const userAgentCharacters = 256;
const actionCharacters = 128;
/** An outside issuer's token names itself as it likes. */
const tokenIdCharacters = 128;

interface Values {
  readonly tenantId: string | null;
  readonly actorType: string;
  readonly actorId: string;
  readonly actorRole: string | null;
  readonly action: string;
  readonly resourceType: string | null;
  readonly resourceId: string | null;
  readonly before: string | null;
  readonly after: string | null;
  readonly clientAddress: string | null;
  readonly userAgent: string | null;
  readonly requestId: string | null;
}

export function auditOfTenant(tx: Transaction, context: TenantContext) {
  return async (act: AuditedAct): Promise<void> => {
    const { actor } = context;
    if (actor === undefined) {
      throw new AppError('internal_error', `A tenant's door was opened without an actor for ${act.action}.`);
    }
    const who = {
      actorType: actor.type,
      actorId: actor.id,
      actorRole: actor.role,
      memberId: actor.memberId ?? null,
      tokenId: storable(actor.tokenId, tokenIdCharacters),
    };
    await insertTenantEntry(tx, {
      ...who,
      ...valuesOf(act),
      ...originOf(context),
      tenantId: context.tenantId,
    });
  };
}

/** The entries of one passage; `end` writes the passage itself where nothing else was written. */
export function auditOfOperator(tx: Transaction, context: OperatorContext, reason: string) {
  let isWritten = false;
  const { operator, role, tenantId } = context;
  const isSystem = operator.startsWith('system:');
  const who = {
    actorType: isSystem ? 'system' : 'operator',
    actorId: operator,
    actorRole: role ?? (isSystem ? null : 'operator'),
  };
  const audit = async (act: AuditedAct): Promise<void> => {
    isWritten = true;
    const values = { ...who, ...valuesOf(act), ...originOf(context) };
    await insertOperatorEntry(tx, { ...values, tenantId: act.tenantId ?? tenantId ?? null }, reason);
  };
  return {
    audit,
    async end(): Promise<void> {
      if (!isWritten) await audit({ action: reason.trimStart().split(' ', 1)[0] || 'act' });
    },
  };
}

export function auditOfSystem(tx: Transaction, job: SystemJob) {
  return async (act: AuditedAct): Promise<void> => {
    const who = { actorType: 'system', actorId: `system:${job}`, actorRole: null };
    const values = { ...who, ...valuesOf(act), ...originOf({}), tenantId: act.tenantId ?? null };
    if (values.tenantId === null) await insertPlatformEntry(tx, values, act.action);
    else await insertTenantEntry(tx, values);
  };
}

function valuesOf(act: AuditedAct) {
  return {
    action: act.action.slice(0, actionCharacters),
    resourceType: act.resource?.type ?? null,
    resourceId: act.resource?.id ?? null,
    before: redactedJson(act.before),
    after: redactedJson(act.after),
  };
}

function originOf(context: Pick<TenantContext, 'requestId' | 'clientAddress' | 'userAgent'>) {
  return {
    requestId: context.requestId ?? null,
    clientAddress: context.clientAddress ?? null,
    userAgent: storable(context.userAgent, userAgentCharacters),
  };
}

function storable(text: string | null | undefined, characters: number): string | null {
  return text === null || text === undefined ? null : storableText(text, characters);
}

interface TenantValues extends Values {
  readonly memberId?: string | null;
  readonly tokenId?: string | null;
}

async function insertTenantEntry(tx: Transaction, values: TenantValues): Promise<void> {
  await sql`
    insert into tenant.audit_entries
      (tenant_id, actor_type, actor_id, actor_role, member_id, token_id, action, resource_type, resource_id,
       before, after, client_address, user_agent, request_id)
    values
      (${values.tenantId}, ${values.actorType}, ${values.actorId}, ${values.actorRole},
       ${values.memberId ?? null}, ${values.tokenId ?? null}, ${values.action},
       ${values.resourceType}, ${values.resourceId}, ${values.before}, ${values.after},
       ${values.clientAddress}, ${values.userAgent}, ${values.requestId})
  `.execute(tx);
}

async function insertPlatformEntry(tx: Transaction, values: Values, reason: string): Promise<void> {
  await sql`
    insert into platform.operator_audit_entries
      (tenant_id, actor_type, actor_id, actor_role, action, resource_type, resource_id, before, after,
       client_address, user_agent, request_id, reason)
    values
      (${values.tenantId}, ${values.actorType}, ${values.actorId}, ${values.actorRole}, ${values.action},
       ${values.resourceType}, ${values.resourceId}, ${values.before}, ${values.after},
       ${values.clientAddress}, ${values.userAgent}, ${values.requestId}, ${reason})
  `.execute(tx);
}

/** The whole entry, and where it concerns a tenant, what that tenant may know of it. */
async function insertOperatorEntry(tx: Transaction, values: Values, reason: string): Promise<void> {
  if (values.tenantId === null) {
    await insertPlatformEntry(tx, values, reason);
    return;
  }
  await sql`
    with entry as (
      insert into platform.operator_audit_entries
        (tenant_id, actor_type, actor_id, actor_role, action, resource_type, resource_id, before, after,
         client_address, user_agent, request_id, reason)
      values
        (${values.tenantId}, ${values.actorType}, ${values.actorId}, ${values.actorRole}, ${values.action},
         ${values.resourceType}, ${values.resourceId}, ${values.before}, ${values.after},
         ${values.clientAddress}, ${values.userAgent}, ${values.requestId}, ${reason})
      returning *
    )
    insert into tenant.audit_entries
      (tenant_id, entry_id, occurred_at, actor_type, actor_id, action, resource_type, resource_id, before, after,
       request_id, is_copy)
    select tenant_id, entry_id, occurred_at, actor_type, case when actor_type = 'system' then actor_id end, action,
      resource_type, resource_id, before, after, request_id, true
    from entry
  `.execute(tx);
}
