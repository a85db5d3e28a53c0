import { deepEqual, equal, ok } from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  createFrameScanner,
  dataStart,
  frameShape,
  type FrameShape,
  MAX_FRAME_BYTES,
  readFrame,
} from './sse.ts';

interface Seen {
  readonly text: string;
  readonly lineCount: number;
  readonly shape: FrameShape;
}

function scan(chunks: readonly Buffer[], options: { flush?: boolean; cap?: number } = {}) {
  const frames: Seen[] = [];
  const scanner = createFrameScanner((buffer, start, end, next, lineCount) => {
    ok(next >= end);
    frames.push({
      text: buffer.toString('utf8', start, end),
      lineCount,
      shape: frameShape(buffer, start, end, lineCount),
    });
  }, options.cap);
  let isFine = true;
  for (const chunk of chunks) isFine = scanner.feed(chunk) && isFine;
  if (options.flush === true) scanner.flush();
  return { frames, isFine, pendingBytes: scanner.pendingBytes };
}

/** The stream cut into pieces of the given sizes, over and over. */
function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (let index = 0; at < stream.length; index += 1) {
    const size = Math.max(1, sizes[index % sizes.length] ?? 1);
    // A copy of its own each, as a socket gives them, so that a scanner that reads outside its chunk is caught.
    pieces.push(Buffer.from(stream.subarray(at, at + size)));
    at += size;
  }
  return pieces;
}

const stream = 'data: {"a":1}\n\n: ping\n\nevent: x\ndata: {"b":2}\nid: 7\n\ndata: [DONE]\n\n';
const expected = ['data: {"a":1}', ': ping', 'event: x\ndata: {"b":2}\nid: 7', 'data: [DONE]'];

test('frames are found wherever the stream is cut, with each of the three line endings', () => {
  for (const ending of ['\n', '\r\n', '\r']) {
    const bytes = Buffer.from(stream.replaceAll('\n', ending));
    for (let size = 1; size <= bytes.length; size += 1) {
      const { frames, isFine, pendingBytes } = scan(cut(bytes, [size]));
      deepEqual(
        frames.map((frame) => frame.text),
        expected.map((text) => text.replaceAll('\n', ending)),
        `ending ${JSON.stringify(ending)}, pieces of ${size}`,
      );
      deepEqual(
        frames.map((frame) => frame.lineCount),
        [1, 1, 3, 1],
      );
      ok(isFine);
      equal(pendingBytes, 0);
    }
  }
});

test('frames do not depend on where a stream of mixed line endings is cut', () => {
  const line = fc.constantFrom('data: {"x":"é😀"}', 'data:[DONE]', ': c', 'event: e', 'data: ', 'id', '{}');
  const ending = fc.constantFrom('\n', '\r\n', '\r', '\n\n', '\r\n\r\n', '\r\r', '\n\r\n', '\n\r');
  fc.assert(
    fc.property(
      fc.array(fc.tuple(line, ending), { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 5 }),
      (parts, sizes) => {
        const bytes = Buffer.from(parts.flat().join(''));
        const whole = scan([bytes], { flush: true });
        const pieces = scan(cut(bytes, sizes), { flush: true });
        deepEqual(
          pieces.frames.map((frame) => frame.text),
          whole.frames.map((frame) => frame.text),
        );
        // The specification's own way: lines first, then a frame at each blank one.
        const frames: string[][] = [];
        let lines: string[] = [];
        for (const text of bytes.toString().split(/\r\n|\n|\r/)) {
          if (text !== '') lines.push(text);
          else if (lines.length > 0) {
            frames.push(lines);
            lines = [];
          }
        }
        if (lines.length > 0) frames.push(lines);
        deepEqual(
          whole.frames.map((frame) => frame.text.split(/\r\n|\n|\r/)),
          frames,
        );
      },
    ),
    { numRuns: 500 },
  );
});

test('a frame over the cap ends the scan, complete or not, and one just under it passes', () => {
  const frame = (size: number) => Buffer.from(`data: ${'x'.repeat(size - 6)}`);
  equal(scan([frame(100), Buffer.from('\n\n')], { cap: 100 }).frames.length, 1);
  const complete = scan([Buffer.concat([frame(101), Buffer.from('\n\ndata: {}\n\n')])], { cap: 100 });
  equal(complete.isFine, false);
  equal(complete.frames.length, 0);
  const unfinished = scan([frame(60), frame(60)], { cap: 100 });
  equal(unfinished.isFine, false);
  equal(unfinished.frames.length, 0);
  equal(scan([frame(60), frame(60), Buffer.from('\n\n')], { cap: 100 }).frames.length, 0);
  equal(MAX_FRAME_BYTES, 1024 * 1024);
});

test('views handed out stay true after later chunks', () => {
  const kept: Buffer[] = [];
  const scanner = createFrameScanner((buffer, start, end) => kept.push(buffer.subarray(start, end)));
  const texts = Array.from({ length: 500 }, (_, index) => `data: {"n":${index}}`);
  for (const piece of cut(Buffer.from(`${texts.join('\n\n')}\n\n`), [7, 23, 2])) scanner.feed(piece);
  deepEqual(
    kept.map((view) => view.toString()),
    texts,
  );
});

test('a frame of a mebibyte in pieces of 64 bytes is copied a bounded number of times', () => {
  const size = MAX_FRAME_BYTES - 2;
  const started = process.cpuUsage();
  const { frames } = scan(cut(Buffer.from(`data: {${'x'.repeat(size - 8)}}\n\n`), [64]));
  equal(frames[0]?.shape, 'object');
  const used = process.cpuUsage(started);
  // Copying the frame anew for each of 16,384 pieces would be 8 GiB.
  ok((used.user + used.system) / 1000 < 1_000, `${used.user + used.system} us`);
});

test('the shape of a frame is judged without reading its JSON', () => {
  const shapeOf = (text: string): FrameShape | undefined =>
    scan([Buffer.from(`${text}\n\n`)]).frames[0]?.shape;
  equal(shapeOf('data: {"a":1}'), 'object');
  equal(shapeOf('data:{}'), 'object');
  equal(shapeOf('data: {"a":1} '), 'object');
  equal(shapeOf('event: message\ndata: {"a":1}'), 'object');
  equal(shapeOf('data: {"a":\ndata: 1}'), 'object');
  equal(shapeOf('data: [DONE]'), 'done');
  equal(shapeOf('data:[DONE]'), 'done');
  equal(shapeOf('event: end\ndata: [DONE]'), 'done');
  equal(shapeOf(': keep-alive'), 'quiet');
  equal(shapeOf('id: 3\nretry: 100'), 'quiet');
  equal(shapeOf('event: ping'), 'quiet');
  equal(shapeOf('data: {"a":1'), 'other');
  equal(shapeOf('data: [DONE'), 'other');
  equal(shapeOf('data: {'), 'other');
  equal(shapeOf('data:'), 'other');
  equal(shapeOf('data: <html>'), 'other');
  equal(shapeOf('dat: {}'), 'quiet');
});

test('a stream that ends without its last blank line is told its last frame by flush', () => {
  const last = (text: string) => scan([Buffer.from(text)], { flush: true }).frames.at(-1);
  deepEqual(last('data: [DONE]\n'), { text: 'data: [DONE]', lineCount: 1, shape: 'done' });
  deepEqual(last('data: [DONE]'), { text: 'data: [DONE]', lineCount: 1, shape: 'done' });
  deepEqual(last('data: [DONE]\r'), { text: 'data: [DONE]', lineCount: 1, shape: 'done' });
  deepEqual(last('data: {}\n\ndata: {"a"'), { text: 'data: {"a"', lineCount: 1, shape: 'other' });
  equal(scan([Buffer.from('data: {}\n\n')], { flush: true }).frames.length, 1);
});

test('a byte order mark, blank lines and empty chunks are no frames', () => {
  const { frames } = scan([Buffer.from('\uFEFFdata: {}\n\n'), Buffer.alloc(0), Buffer.from('\n\n\r\n\n')]);
  deepEqual(
    frames.map((frame) => frame.text),
    ['data: {}'],
  );
});

test('reading a frame joins its data lines and takes one space off', () => {
  const read = (text: string) => readFrame(Buffer.from(text), 0, Buffer.byteLength(text));
  deepEqual(read('data: a'), { event: null, data: 'a' });
  deepEqual(read('data:  a'), { event: null, data: ' a' });
  deepEqual(read('event: e\r\ndata: a\r\ndata:b'), { event: 'e', data: 'a\nb' });
  deepEqual(read(': c\nretry: 1'), { event: null, data: null });
  deepEqual(read('data'), { event: null, data: '' });
  const one = Buffer.from('data: {}');
  equal(dataStart(one, 0, one.length, 1), 6);
  equal(dataStart(Buffer.from('data:{}'), 0, 7, 1), 5);
  equal(dataStart(Buffer.from('event: a'), 0, 8, 1), -1);
  equal(dataStart(one, 0, one.length, 2), -1);
});
