import { z } from 'zod';
import { eventError, instant, openWord } from './shared.ts';

/** A document was taken in, can be found, could not be read, or is gone. Its text is never part of it. */
export const documentChangedV1 = z.object({
  document_id: z.uuid(),
  collection_id: z.uuid().nullable(),
  document_version: z.number().int().min(1).describe('Grows with each content that is sent for the document'),
  change: openWord(['received', 'indexed', 'failed', 'erased']),
  media_type: z.string().nullable(),
  size_bytes: z.number().int().min(0).nullable(),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable()
    .describe('Of the content; null once it is erased'),
  chunk_count: z.number().int().min(0).nullable().describe('Null until it is indexed'),
  error: eventError.nullable(),
  changed_at: instant,
});
export type DocumentChangedV1 = z.infer<typeof documentChangedV1>;
