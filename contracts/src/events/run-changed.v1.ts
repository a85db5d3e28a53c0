import { z } from 'zod';
import { eventError, femtoDigits, instant, openWord } from './shared.ts';

/** A run of a workflow, or one step of it, has gone on. */
export const runChangedV1 = z.object({
  run_id: z.uuid(),
  workflow: z.string().min(1).describe('The name of its specification'),
  workflow_version: z.string().describe('The version of its specification'),
  change: openWord([
    'created',
    'started',
    'waiting',
    'resumed',
    'completed',
    'failed',
    'cancelled',
    'compensating',
    'compensated',
    'step_started',
    'step_completed',
    'step_failed',
    'step_compensated',
  ]).describe('What happened; words with `step_` tell of the step'),
  state: openWord([
    'queued',
    'running',
    'waiting',
    'compensating',
    'completed',
    'failed',
    'cancelled',
  ]).describe('The state of the run after it'),
  step: z
    .object({
      name: z.string().min(1),
      kind: z.string().min(1),
      attempt: z.number().int().min(1),
    })
    .nullable()
    .describe('The step that it is about; null where it is about the run'),
  error: eventError.nullable(),
  cost_femto: femtoDigits
    .nullable()
    .describe('What the run has cost so far; null where not all of it is priced'),
  changed_at: instant,
});
export type RunChangedV1 = z.infer<typeof runChangedV1>;
