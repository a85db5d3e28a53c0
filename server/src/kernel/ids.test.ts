import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromTypeId, isUuid, newUuid, toTypeId, uuidTimeMs } from './ids.ts';

// Vectors of the TypeID specification 0.3 (valid.yml), with one of our prefixes.
const vectors = [
  ['00000000-0000-0000-0000-000000000000', '00000000000000000000000000'],
  ['00000000-0000-0000-0000-000000000001', '00000000000000000000000001'],
  ['00000000-0000-0000-0000-000000000010', '0000000000000000000000000g'],
  ['00000000-0000-0000-0000-000000000020', '00000000000000000000000010'],
  ['ffffffff-ffff-ffff-ffff-ffffffffffff', '7zzzzzzzzzzzzzzzzzzzzzzzzz'],
  ['0110c853-1d09-52d8-d73e-1194e95b5f19', '0123456789abcdefghjkmnpqrs'],
  ['01890a5d-ac96-774b-bcce-b302099a8057', '01h455vb4pex5vsknk084sn02q'],
] as const;

test('a UUID and its TypeID are the same 128 bits, as the public vectors say', () => {
  for (const [uuid, suffix] of vectors) {
    assert.equal(toTypeId('req', uuid), `req_${suffix}`);
    assert.equal(fromTypeId('req', `req_${suffix}`), uuid);
  }
});

test('text that is no TypeID of the prefix is refused', () => {
  for (const text of [
    '',
    'req_',
    'ten_01h455vb4pex5vsknk084sn02q',
    'req_8zzzzzzzzzzzzzzzzzzzzzzzzz',
    'req_01H455VB4PEX5VSKNK084SN02Q',
    'req_01h455vb4pex5vsknk084sn02',
    'req_01h455vb4pex5vsknk084sn0lq',
  ]) {
    assert.equal(fromTypeId('req', text), null, text);
  }
});

test('new ids carry their time and sort by it', () => {
  const made = Array.from({ length: 1000 }, newUuid);
  assert.deepEqual([...made].sort(), made);
  const first = made[0] ?? '';
  assert.ok(isUuid(first));
  assert.ok(Math.abs(uuidTimeMs(first) - Date.now()) < 5_000);
});
