import assert from 'node:assert/strict';
import { test } from 'node:test';
import { doneFrame, frame, testTarget, usageFrame } from '../chat-path.harness.ts';
import { FrameRelay } from './frame-relay.ts';

const { provider: connection } = testTarget();

interface Relayed {
  readonly text: string;
  readonly isDone: boolean;
  readonly fault: string | null;
  readonly relay: FrameRelay;
}

/** Feeds a stream cut into pieces of `size` bytes, and its end. */
function relayed(
  stream: string,
  options: { isUsageWanted?: boolean; size?: number; isEnded?: boolean } = {},
): Relayed {
  const relay = new FrameRelay({ isUsageWanted: options.isUsageWanted ?? false, connection });
  const bytes = Buffer.from(stream);
  const size = options.size ?? bytes.length;
  let text = '';
  let isDone = false;
  let fault: string | null = null;
  const take = (batch: ReturnType<FrameRelay['feed']>): void => {
    text += Buffer.concat(batch.pieces).toString();
    isDone ||= batch.isDone;
    fault ??= batch.fault?.kind ?? null;
  };
  for (let at = 0; at < bytes.length; at += size) take(relay.feed(bytes.subarray(at, at + size)));
  if (options.isEnded !== false) take(relay.end());
  return { text, isDone, fault, relay };
}

const roleFrame =
  'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n';
const stopFrame = 'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n';
const good = roleFrame + frame('hel') + frame('lo "usage": {} \\ "error":') + stopFrame;

test('frames pass as the bytes that came, however they are cut, and [DONE] is told instead of passed', () => {
  for (const size of [1, 2, 3, 7, 64, 100_000]) {
    const { text, isDone, fault } = relayed(good + usageFrame + doneFrame, { size });
    assert.equal(text, good, `in pieces of ${size}`);
    assert.deepEqual([isDone, fault], [true, null]);
  }
});

test('the usage is read, and its frame passes only to a client that asked', () => {
  const asked = relayed(good + usageFrame + doneFrame, { isUsageWanted: true });
  assert.equal(asked.text, good + usageFrame);
  const silent = relayed(good + usageFrame + doneFrame);
  assert.equal(silent.text, good);
  for (const { relay } of [asked, silent]) {
    assert.deepEqual(
      [relay.usage?.input_tokens, relay.usage?.output_tokens, relay.usage?.estimated],
      [10, 2, false],
    );
  }
});

test('usage beside content is read and the frame passes', () => {
  const both =
    'data: {"id":"c1","usage" : {"prompt_tokens":1,"completion_tokens":2},"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n';
  const { text, relay } = relayed(frame('a') + both + doneFrame);
  assert.equal(text, frame('a') + both);
  assert.equal(relay.usage?.output_tokens, 2);
  const nulls = frame('a').replace('"choices"', '"usage":null,"error":null,"choices"');
  assert.deepEqual([relayed(nulls + doneFrame).text, relayed(nulls + doneFrame).fault], [nulls, null]);
});

test('comments, ids and the like do not pass', () => {
  const noise = `: OPENROUTER PROCESSING\n\nid: 5\nretry: 100\n\n`;
  assert.equal(relayed(noise + frame('a') + noise + doneFrame).text, frame('a'));
});

test('other line ends and several data lines are read as the format says', () => {
  const crlf = frame('a').replaceAll('\n', '\r\n');
  const result = relayed(`${crlf}data: [DONE]\r\n\r\n`);
  assert.deepEqual([result.text, result.isDone], [crlf, true]);
  const split = 'data: {"id":"c1",\ndata: "choices":[]}\n\n';
  assert.equal(relayed(split + doneFrame).text, split);
});

test('an end without [DONE] is a cut, and one without any frame is empty', () => {
  assert.equal(relayed(good).fault, 'cut');
  assert.equal(relayed('').fault, 'empty');
  assert.equal(relayed(': only a comment\n\n').fault, 'empty');
  assert.equal(relayed(doneFrame).fault, 'empty');
  assert.equal(relayed(`${good}data: [DONE]\n`).isDone, true, 'a last blank line may be missing');
  assert.equal(relayed(`${good}data: {"id":"c1","choi`).fault, 'unreadable');
});

test('a broken frame stops the stream there; what came before it passes', () => {
  for (const broken of [
    'data: {"choices":[{"delta"\n\n',
    'data: {not json}\n\n',
    'data: [1,2]\n\n',
    'data: hello\n\n',
    'data: <html>\n\n',
    'data: {"usage":{broken}}\n\n',
  ]) {
    const result = relayed(frame('a') + broken + frame('b') + doneFrame);
    assert.deepEqual([result.text, result.fault, result.isDone], [frame('a'), 'unreadable', false], broken);
  }
  assert.equal(relayed('data: {"id":"a",}\n\n').fault, 'unreadable', 'the first frame is parsed whole');
});

test('an error frame is a fault in every form that servers give it', () => {
  for (const error of [
    'data: {"error":{"message":"overloaded","code":502}}\n\n',
    'data: {"error" : "text"}\n\n',
    'data: {"id":"c1","choices":[{"index":0,"delta":{"content":""}}],"error":{"code":502,"message":"x"}}\n\n',
    'event: error\ndata: {"type":"overloaded"}\n\n',
  ]) {
    const result = relayed(frame('a') + error + doneFrame);
    assert.deepEqual([result.text, result.fault], [frame('a'), 'error_frame'], error);
  }
  assert.equal(relayed('data: {"error":{"message":"x"}}\n\n').fault, 'error_frame');
});

test('a frame longer than the cap is a fault', () => {
  assert.equal(relayed(frame('x'.repeat(2_000_000)), { isEnded: false }).fault, 'unreadable');
});

test('without usage the delivered text is measured, not its frames', () => {
  const { relay } = relayed(roleFrame + frame('hello') + frame(' world') + stopFrame + doneFrame);
  assert.equal(relay.contentBytes, 'hello world'.length);
  const moved = frame('hello').replace(
    '"id":"c1"',
    '"id":"c1","padding":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"',
  );
  assert.equal(relayed(frame('abc') + moved + frame('d') + doneFrame).relay.contentBytes, 9);
  const tool = (text: string): string =>
    `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":${JSON.stringify(text)}}}]}}]}\n\n`;
  assert.equal(relayed(tool('{"a"') + tool(':1}') + doneFrame).relay.contentBytes, '{\\"a\\":1}'.length);
  const thought = 'data: {"choices":[{"delta":{"content":null,"reasoning_content": "hmm"}}]}\n\n';
  assert.equal(relayed(thought + doneFrame).relay.contentBytes, 3);
});
