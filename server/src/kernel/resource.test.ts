import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from './error.ts';
import { pageOf, requireVersion } from './resource.ts';

const codeOf = (run: () => void): string | null => {
  try {
    run();
    return null;
  } catch (error) {
    return error instanceof AppError ? error.code : 'not coded';
  }
};

test('a change without If-Match, or with a star, insists on no version', () => {
  assert.equal(
    codeOf(() => requireVersion(null, 3)),
    null,
  );
  assert.equal(
    codeOf(() => requireVersion('*', 3)),
    null,
  );
});

test('If-Match holds a change to the version that was read, however the version is written', () => {
  for (const header of ['3', '"3"', 'W/"3"', '"1", "3"', ' "3" ']) {
    assert.equal(
      codeOf(() => requireVersion(header, 3)),
      null,
      header,
    );
  }
  for (const header of ['2', '"33"', '"1", "2"']) {
    assert.equal(
      codeOf(() => requireVersion(header, 3)),
      'version_conflict',
      header,
    );
  }
  for (const header of ['', 'three', '"3', '3; drop', '"3" "4"', '-3', '3.0']) {
    assert.equal(
      codeOf(() => requireVersion(header, 3)),
      'invalid_request',
      header,
    );
  }
});

test('a page holds at most its limit, and says whether there is more', () => {
  const id = (item: string): string => item;
  assert.deepEqual(pageOf([], 2, id), {
    object: 'list',
    data: [],
    has_more: false,
    first_id: null,
    last_id: null,
  });
  assert.deepEqual(pageOf(['a', 'b'], 2, id), {
    object: 'list',
    data: ['a', 'b'],
    has_more: false,
    first_id: 'a',
    last_id: 'b',
  });
  assert.deepEqual(pageOf(['a', 'b', 'c'], 2, id), {
    object: 'list',
    data: ['a', 'b'],
    has_more: true,
    first_id: 'a',
    last_id: 'b',
  });
});
