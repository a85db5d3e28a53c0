/** Who stands behind a tenant's call, by the ids that the wire shows. */
export interface TenantActor {
  /** What the call came with. */
  readonly type: 'key' | 'token';
  /** The key, also that of a token; of a token of an outside issuer the issuer. */
  readonly id: string;
  readonly role: string | null;
  /** `mem_...`, where the key or token is a member's. */
  readonly memberId?: string | null;
  /** Which token it was (its `jti`). */
  readonly tokenId?: string | null;
}

/** What was done. Who did it, as whom, from where and by which request is what the door was opened with. */
export interface AuditedAct {
  /**
   * The named act: the id of the endpoint (`keys.create`), or what a job does (`tenants.purge`). Never text of a caller.
   */
  readonly action: string;
  /** What it was done to, by the id that the wire shows. */
  readonly resource?: { readonly type: string; readonly id: string };
  /**
   * The resource as the wire shows it, before and after; left out where there was nothing before or is nothing after.
   * Values under names of secrets, and what looks like one of our keys, are taken out by the writer; whatever else must
   * not be read by the tenant's admins is not to be put in.
   */
  readonly before?: unknown;
  readonly after?: unknown;
  /**
   * Whose it is, as UUID text, where the door does not say: of a system job, or of an operator whose door names no tenant.
   * The tenant's admins see the entry.
   */
  readonly tenantId?: string;
}

/** What every handle of a door can do beside queries. */
export interface Audited {
  /**
   * Writes an entry of the audit in this transaction: both commit or neither. To be called once for each resource that is
   * changed, after the change. One statement.
   * @throws AppError `internal_error` at a tenant's door that was opened without its `actor`
   */
  audit(act: AuditedAct): Promise<void>;
}
