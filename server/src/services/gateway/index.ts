import type { Database } from '#db';
import type { Route } from '#http';
import type { HealthPart, Lifecycle } from '#kernel';
import type { TimerTask } from '#jobs';
import { type ChatPathDeps, createChatPath } from './chat/chat-path.ts';
import { createJournal, type JournalSettings } from './journal/journal.ts';
import { recoverJournals } from './journal/recovery.ts';
import { createRequestsRoutes } from './requests/requests.ts';
import { createPartitionKeeper, type RetentionSettings } from './settlement/retention.ts';
import { createSettlement, type SettlementSettings } from './settlement/settlement.ts';
import { createUsageRoutes } from './requests/usage.ts';

export type { JournalSettings } from './journal/journal.ts';
export type { RetentionSettings } from './settlement/retention.ts';
export type { SettlementSettings } from './settlement/settlement.ts';
export type * from './types.ts';

export interface GatewayDeps extends Omit<ChatPathDeps, 'journal'> {
  readonly db: Database;
}

export interface GatewaySettings {
  readonly journal: JournalSettings;
  readonly settlement?: SettlementSettings;
  readonly retention?: RetentionSettings;
}

export interface GatewayModule {
  /** All on the public listener. */
  readonly routes: readonly Route[];
  /**
   * `start` makes the coming partitions, recovers the journals of ended processes and begins to ship; when it resolves,
   * what was acknowledged before a crash is in the database. `stop` ships what it can, and leaves the rest to recovery.
   * Between the two, call `drain` first.
   */
  readonly lifecycle: Lifecycle;
  /** Takes no more requests; running ones finish, or end with `draining` at the deadline. Milliseconds. */
  drain(deadlineMs: number): Promise<void>;
  readonly health: readonly HealthPart[];
  /** Work by the clock, for whichever process runs such tasks. */
  readonly tasks: readonly TimerTask[];
}

/** The gateway: chats and embeddings, their journal and settlement, their explanations and sums. See README.md. */
export function createGateway(deps: GatewayDeps, settings: GatewaySettings): GatewayModule {
  const journal = createJournal(deps, settings.journal);
  const partitions = createPartitionKeeper(deps, settings.retention);
  const settlement = createSettlement({ ...deps, journal, partitions }, settings.settlement);
  const chat = createChatPath({ ...deps, journal });
  return {
    routes: [
      ...chat.routes,
      ...createRequestsRoutes({ ...deps, journal }),
      ...createUsageRoutes({ ...deps, journal }),
    ],
    lifecycle: {
      async start() {
        await partitions.prepare();
        await recoverJournals(
          { ...deps, ship: (records) => settlement.ship(records) },
          { directory: journal.directory, ownWriterId: journal.writerId },
        );
        settlement.start();
        chat.sweep.start();
      },
      async stop() {
        await chat.drain(0);
        chat.sweep.stop();
        await settlement.stop();
        journal.close();
      },
    },
    drain: (deadlineMs) => chat.drain(deadlineMs),
    health: [chat.health, { name: 'settlement', isHealthy: () => settlement.isHealthy() }],
    tasks: [partitions.task],
  };
}
