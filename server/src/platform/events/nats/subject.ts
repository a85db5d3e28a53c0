import { partitionCount } from '../partition.ts';

/**
 * Subjects: `<prefix>.<lane>.<slot>.<type>`. The partition is written as two octal digits, 43 as `5.3`, so that one
 * wildcard (`stoa.ev.5.>`) takes eight partitions: NATS 2.9 knows one filter a consumer, and 64 consumers each searching
 * the whole stream for its 64th part cost more than a server has (README, figures). The type's own dots follow as they
 * are: `stoa.ev.5.3.request.completed.v1`.
 */

/** How many lanes there are. Lane 5 holds the partitions 40 to 47. */
export const laneCount = 8;
const slotCount = partitionCount / laneCount;

export function laneOf(partition: number): number {
  return Math.floor(partition / slotCount);
}

/** The subject that one event is published under. A type that can't be a subject becomes `_`; the header has it as it is. */
export function subjectOf(prefix: string, partition: number, type: string): string {
  const suffix = /^[\w-]+(\.[\w-]+)*$/.test(type) ? type : '_';
  return `${prefix}.${laneOf(partition)}.${partition % slotCount}.${suffix}`;
}

/** What a reader of one lane asks for. */
export function laneFilter(prefix: string, lane: number): string {
  return `${prefix}.${lane}.>`;
}
