/**
 * Loads test files one after the other into this process, where node's test runner picks their tests up, and puts
 * a marker test behind each. The marker fails when the file could not be loaded to its end.
 *
 * `node --test --test-isolation=none` would do almost the same, but it drops the error of a file that throws
 * after its first test was declared: half of that file's tests are gone and the run is green (seen in 24.21).
 */
import { before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { markerPrefix } from './records.ts';

const loaded = Promise.withResolvers<void>();
// Where the process is ended with its tests, those of the first file would end it while the next is being loaded.
before(() => loaded.promise);

for (const file of process.argv.slice(2)) {
  let failure: Error | undefined;
  try {
    await import(pathToFileURL(file).href);
  } catch (error) {
    failure = new Error('the file could not be loaded to its end', { cause: error });
  }
  test(`${markerPrefix}${file}`, () => {
    if (failure) throw failure;
  });
}
loaded.resolve();
