import {
  type KeyLimitRule,
  type LimitMeter,
  type LimitSubject,
  type RouteClass,
  routeClasses,
  type TenantLimitRule,
} from '@stoa/contracts';
import type { LimitRule } from '#cache';

/** A limit, ready to be asked. */
export interface CompiledRule {
  /** As clients see it; no two of a request are the same. */
  readonly name: string;
  readonly meter: LimitMeter;
  /** `own`: of the one key that it was set for. */
  readonly per: LimitSubject | 'own';
  readonly periodS: number;
  readonly rule: LimitRule;
}

/** The limits that a request of each class meets. */
export type CompiledRules = Readonly<Record<RouteClass, readonly CompiledRule[]>>;

/** Null where there is none at all. */
export function compileRules(
  tenantRules: readonly TenantLimitRule[],
  keyRules: readonly KeyLimitRule[],
): CompiledRules | null {
  if (tenantRules.length === 0 && keyRules.length === 0) return null;
  const all = [
    ...tenantRules.map((rule) => ({ ...rule, compiled: compiled(rule, rule.per) })),
    ...keyRules.map((rule) => ({ ...rule, compiled: compiled(rule, 'own') })),
  ];
  const of = (routeClass: RouteClass): readonly CompiledRule[] =>
    all
      .filter(
        ({ route_class: on, meter }) => (on === 'any' || on === routeClass) && isCounted(meter, routeClass),
      )
      .map((rule) => rule.compiled);
  const [chat, embeddings, read, write, auth] = routeClasses.map(of);
  return {
    chat: chat ?? [],
    embeddings: embeddings ?? [],
    read: read ?? [],
    write: write ?? [],
    auth: auth ?? [],
  };
}

function isCounted(meter: LimitMeter, routeClass: RouteClass): boolean {
  return meter === 'requests' || routeClass === 'chat' || routeClass === 'embeddings';
}

function compiled(rule: KeyLimitRule, per: CompiledRule['per']): CompiledRule {
  const { meter, limit, period_s: periodS, burst } = rule;
  return { name: nameOf(rule, per), meter, per, periodS, rule: { limit, periodMs: periodS * 1000, burst } };
}

/** Two limits of one name would be one limit. */
export function nameOf(
  { meter, route_class: routeClass, period_s: periodS }: KeyLimitRule,
  per: CompiledRule['per'],
): string {
  return `${per === 'own' ? 'own-key' : per}-${routeClass}-${meter}-${periodS}s`;
}

/** Whose debt it is. */
export function subjectOf(
  per: CompiledRule['per'],
  caller: { readonly keyId: string; readonly memberId: string | null; readonly source: string },
): string | null {
  if (per === 'tenant') return '';
  if (per === 'member') return caller.memberId;
  return per === 'ip' ? caller.source : caller.keyId;
}
