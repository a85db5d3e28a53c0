import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasRow, jsonAt, linesOf, RecordBytes, type RecordPlace } from './record-bytes.ts';

const decoder = new TextDecoder('utf-8', { fatal: true });

function textsOf(places: readonly RecordPlace[]): { readonly jsons: string[]; readonly rows: string[] } {
  const { jsons, rows } = linesOf(places);
  return { jsons: decoder.decode(jsons).split('\n'), rows: decoder.decode(rows).split('\n') };
}

test('what was added comes back, over many chunks, in one script or several', () => {
  const bytes = new RecordBytes();
  const jsons = Array.from(
    { length: 3000 },
    (_, index) => `{"n":${index},"t":"${'äß漢😀x'.repeat(index % 90)}"}`,
  );
  const rows = jsons.map((_, index) => `(${index},"é")`);
  const places = jsons.map((json, index) => bytes.add(json, rows[index] ?? null));
  assert.deepEqual(places.map(jsonAt), jsons);
  assert.deepEqual(textsOf(places), { jsons, rows });
});

test('a record larger than a chunk lies in one of its own', () => {
  const bytes = new RecordBytes();
  const texts = ['small', '漢'.repeat(2_000_000), 'small again'];
  const places = texts.map((text) => bytes.add(text, text));
  assert.deepEqual(textsOf(places), { jsons: texts, rows: texts });
  for (const place of places) bytes.release(place);
});

test('a record without a row says so', () => {
  const bytes = new RecordBytes();
  assert.equal(hasRow(bytes.add('{}', null)), false);
  assert.equal(hasRow(bytes.add('{}', '')), true);
});

test('what is released is used again, and nothing that is held is written over', () => {
  const bytes = new RecordBytes();
  const held: { place: RecordPlace; json: string }[] = [];
  const chunks = new Set<unknown>();
  for (let round = 0; round < 40; round += 1) {
    for (let index = 0; index < 500; index += 1) {
      const json = `${round}:${index}:${'x'.repeat(500)}`;
      const place = bytes.add(json, 'row');
      chunks.add(place.chunk);
      held.push({ place, json });
    }
    for (const { place, json } of held.splice(0, round === 39 ? held.length : 480)) {
      assert.equal(jsonAt(place), json);
      bytes.release(place);
    }
  }
  assert.ok(chunks.size <= 5, `${chunks.size} chunks for what is held in two`);
});
