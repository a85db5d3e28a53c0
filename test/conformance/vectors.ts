import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** Outside test vectors, read where STOA_CONFORMANCE_DATA says; nothing of them is kept in this repository. */
function readVectors<Shape extends z.ZodType>(name: string, shape: Shape): z.output<Shape> {
  const folder = process.env['STOA_CONFORMANCE_DATA'];
  if (folder === undefined) throw new Error('STOA_CONFORMANCE_DATA is not set; run npm run test:conformance');
  return shape.parse(JSON.parse(readFileSync(join(folder, 'security', name), 'utf8')));
}

/** Strings that attack software, by the set that they come from. */
export function hostileStrings(): ReadonlyMap<string, readonly string[]> {
  const strings = z.array(z.string()).min(1);
  const classes = readVectors('injection-payloads.json', z.record(z.string(), strings));
  return new Map([
    ['blns', readVectors('blns.json', strings)],
    [`injection payloads of ${Object.keys(classes).length} classes`, Object.values(classes).flat()],
  ]);
}

export interface JsonCase {
  readonly name: string;
  readonly expect: 'accept' | 'reject' | 'either';
  readonly bytes: Buffer;
}

/** Bodies that are JSON, are none, or are either by the reader's choice. */
export function jsonCases(): readonly JsonCase[] {
  const shape = z.array(
    z.object({ name: z.string(), expect: z.enum(['accept', 'reject', 'either']), base64: z.string() }),
  );
  return readVectors('json-parsing.json', shape).map(({ name, expect, base64 }) => ({
    name,
    expect,
    bytes: Buffer.from(base64, 'base64'),
  }));
}

/** Says how many cases of a set were gone through; the runner adds them up and fails where there were none. */
export function sayCases(set: string, count: number): void {
  process.stdout.write(`conformance: ${set} ${count} cases\n`);
}

/** Runs `work` for every item, `width` at a time; rejects with the first failure. */
export async function forEach<Item>(
  items: readonly Item[],
  width: number,
  work: (item: Item, index: number) => Promise<void>,
): Promise<void> {
  const entries = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of entries) await work(item, index);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
