import { z } from 'zod';
import { instant, openWord } from './shared.ts';

/** Somebody or something has judged the answer to a request. */
export const routingFeedbackV1 = z.object({
  feedback_id: z.uuid(),
  request_id: z.uuid(),
  source: openWord(['rating', 'judge', 'outcome']).describe(
    'A rating by a person, the verdict of a judge, or an outcome that was known later',
  ),
  score: z.number().min(0).max(1).describe('0 is the worst, 1 the best'),
  label: z.string().max(200).nullable().describe('What the source calls it'),
  target: z.string().nullable().describe('The target that answered; null where it is not known any more'),
  judge: z.string().nullable().describe('Which judge in which version; null where it was none'),
  given_at: instant,
});
export type RoutingFeedbackV1 = z.infer<typeof routingFeedbackV1>;
