import type { LimitOutcome } from '#cache';
import type { CompiledRule } from './rules.ts';

/**
 * The fields of draft-ietf-httpapi-ratelimit-headers (10), as lists of structured fields: the policies (`q` in `w` seconds,
 * of the unit `qu`) and how they stand (`r` left, all of it again in `t` seconds). A name is made of letters, digits and
 * hyphens, so it needs no escaping. `tokens` is a unit of our own; the draft lets servers have such.
 */
export interface RateLimitFields {
  readonly policy: string;
  readonly state: string;
}

export function rateLimitFields(
  rules: readonly CompiledRule[],
  outcomes: readonly LimitOutcome[],
): RateLimitFields {
  return { policy: policyText(rules), state: stateText(rules, outcomes) };
}

const policies = new WeakMap<readonly CompiledRule[], string>();

function policyText(rules: readonly CompiledRule[]): string {
  const known = policies.get(rules);
  if (known !== undefined) return known;
  const text = rules
    .map(({ name, rule, periodS, meter }) => {
      const unit = meter === 'requests' ? '' : `;qu="${meter}"`;
      return `"${name}";q=${rule.limit};w=${periodS}${unit}`;
    })
    .join(', ');
  policies.set(rules, text);
  return text;
}

function stateText(rules: readonly CompiledRule[], outcomes: readonly LimitOutcome[]): string {
  return rules
    .map(({ name }, index) => {
      const { remaining = 0, resetAfterMs = 0 } = outcomes[index] ?? {};
      return `"${name}";r=${remaining};t=${Math.ceil(resetAfterMs / 1000)}`;
    })
    .join(', ');
}
