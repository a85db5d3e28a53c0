/** The order in which the processes of one cluster start; used by `npm run cluster` and by the failure tests. */
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import type { Member } from './member.ts';

/** What the first process makes and the others must share. */
const sharedFiles = ['credentials.json', 'database-urls.json', 'master.key'];

/**
 * Starts the first one alone, since it migrates the database and makes the keys, gives the others copies of what it made,
 * and starts them. Resolves when all are ready; `untilReady` waits for one and rejects where it never is.
 */
export async function startInOrder(
  members: readonly Member[],
  untilReady: (member: Member) => Promise<void>,
): Promise<void> {
  const [first, ...others] = members;
  if (first === undefined) return;
  first.start();
  await untilReady(first);
  for (const member of others) {
    mkdirSync(member.dataDirectory, { recursive: true, mode: 0o700 });
    for (const file of sharedFiles) {
      const source = path.join(first.dataDirectory, file);
      if (existsSync(source)) copyFileSync(source, path.join(member.dataDirectory, file));
    }
    member.start();
  }
  await Promise.all(others.map(untilReady));
}
