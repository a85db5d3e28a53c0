import { z } from 'zod';
import { instant, minorDigits, openWord } from './shared.ts';

/** An invoice was issued, paid, voided or credited. */
export const invoiceChangedV1 = z.object({
  invoice_id: z.uuid(),
  number: z.string().min(1).describe('The number on the invoice'),
  change: openWord(['issued', 'paid', 'voided', 'credited']),
  currency: z.string().regex(/^[A-Z]{3}$/),
  total_minor: minorDigits.describe('The total of the invoice, in minor units'),
  changed_minor: minorDigits.describe(
    'What this change is about: paid or credited, in minor units; else the total',
  ),
  period_starts_at: instant,
  period_ends_at: instant,
  due_at: instant.nullable(),
  changed_at: instant,
});
export type InvoiceChangedV1 = z.infer<typeof invoiceChangedV1>;
