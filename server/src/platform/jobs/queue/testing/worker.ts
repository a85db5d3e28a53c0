/**
 * A worker in a process of its own, for the test that kills it: says `running <attempt>` when its job begins, and never
 * ends it. Test support only. Takes the database's URLs and the job's name.
 */

import { openDatabase } from '#db';
import { z } from 'zod';
import { defineJob } from '../../index.ts';
import { jobsOver } from './jobs-over.ts';

const urls = z.object({ tenant: z.string(), operator: z.string(), system: z.string() });

const [, , text = '', name = ''] = process.argv;
const db = await openDatabase({ adapter: 'postgres', urls: urls.parse(JSON.parse(text)) });
const job = defineJob({
  name,
  scope: 'tenant',
  data: z.object({ row: z.string() }),
  deadlineMs: 60_000,
  retry: { limit: 3, delayMs: 0, backoff: false },
  run: ({ attempt }) => {
    process.stdout.write(`running ${attempt}\n`);
    return new Promise(() => undefined);
  },
});
await jobsOver({ db }, [job]).lifecycle.start();
