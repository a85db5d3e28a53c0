import { z } from 'zod';
import { femtoDigits, instant, openWord } from './shared.ts';

/** Spending within a budget has reached a share of its limit; told once for each share and window. */
export const budgetCrossedV1 = z.object({
  budget_id: z.uuid(),
  scope: openWord(['tenant', 'project', 'key', 'end_user']).describe('Whose spending the budget holds'),
  scope_id: z.string().min(1),
  threshold_percent: z.number().int().min(1).describe('The share that was reached: 50, 80 or 100'),
  is_hard: z.boolean().describe('True where requests are refused at 100 %'),
  limit_femto: femtoDigits,
  spent_femto: femtoDigits,
  window_starts_at: instant,
  window_ends_at: instant.nullable().describe('Null where the budget has no window'),
  crossed_at: instant,
});
export type BudgetCrossedV1 = z.infer<typeof budgetCrossedV1>;
