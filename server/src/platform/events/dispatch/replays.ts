import { createEventReplay, type EventReplay, readEventReplay } from '@stoa/contracts';
import type { Database } from '#db';
import type { JsonRoute } from '#http';
import { actingOperator, AppError, type Clock, fromTypeId, newUuid, toTypeId } from '#kernel';
import type { EventConsumer } from '../types.ts';
import { insertReplay, type ReplayRow, selectReplay } from './replay.sql.ts';
import type { RouteMakers } from './route-makers.ts';

export interface ReplayDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly http: RouteMakers;
  readonly consumers: readonly EventConsumer[];
  readonly onAsked: () => void;
}

export function replayRoutes({ db, clock, http, consumers, onAsked }: ReplayDeps): JsonRoute[] {
  return [
    http.creatingOperatorRoute(createEventReplay, async ({ body }, principal, context, keep) => {
      requireReplayable(consumers, body.consumer);
      const tenantId = fromTypeId('ten', body.tenant_id);
      if (tenantId === null) throw new AppError('invalid_request', 'tenant_id: must be ten_....');
      const from = new Date(body.from);
      if (from.getTime() > clock.now())
        throw new AppError(
          'invalid_request',
          'from: must be a time in the past; it is when the first event was told.',
          {
            param: 'from',
          },
        );
      const replay = { tenantId, replayId: newUuid(), consumer: body.consumer, from };
      const kept = await db.withOperator(
        actingOperator(principal, context, tenantId),
        `event-replays.create ${body.consumer} from ${body.from}`,
        async (tx) => {
          const row = await insertReplay(tx, replay);
          if (row === undefined) throw new AppError('not_found', 'There is no such tenant.');
          const shown = replayOf(row);
          await tx.audit({
            action: createEventReplay.id,
            resource: { type: shown.object, id: shown.id },
            after: shown,
          });
          return keep(tx, {
            status: 202,
            body: shown,
            headers: { location: `/control/v1/event-replays/${shown.id}` },
          });
        },
      );
      onAsked();
      return kept;
    }),
    http.operatorRoute(readEventReplay, async ({ params }, principal, context) => {
      const id = fromTypeId('rpl', params.id);
      const by = actingOperator(principal, context);
      const row =
        id === null
          ? undefined
          : await db.withOperator(by, `event-replays.read ${params.id}`, (tx) => selectReplay(tx, id));
      if (row === undefined) throw new AppError('not_found', 'There is no such replay.');
      return { status: 200, body: replayOf(row) };
    }),
  ];
}

function requireReplayable(consumers: readonly EventConsumer[], name: string): void {
  const consumer = consumers.find((one) => one.name === name);
  if (consumer === undefined) {
    const known = consumers.map((one) => one.name).join(', ');
    throw new AppError(
      'not_found',
      `There is no consumer ${name}; there ${known === '' ? 'are none' : `is ${known}`}.`,
      { param: 'consumer' },
    );
  }
  if (consumer.isReplayable === true) return;
  throw new AppError('conflict', `The consumer ${name} is not made for having its effects again.`, {
    param: 'consumer',
  });
}

function replayOf(row: ReplayRow): EventReplay {
  return {
    id: toTypeId('rpl', row.replay_id),
    object: 'event_replay',
    tenant_id: toTypeId('ten', row.tenant_id),
    consumer: row.consumer,
    from: row.from_time.toISOString(),
    state: row.state,
    handled: Number(row.handed),
    put_aside: Number(row.failed),
    created_at: row.created_at.toISOString(),
    finished_at: row.finished_at?.toISOString() ?? null,
  };
}
