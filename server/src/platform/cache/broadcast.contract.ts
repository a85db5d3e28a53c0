/** What every adapter of the broadcast guarantees, as tests. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Broadcast, BroadcastMessage } from './index.ts';

export interface BroadcastSubject {
  readonly broadcast: Broadcast;
  until(holds: () => Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

export function describeBroadcastContract(adapter: string, open: () => Promise<BroadcastSubject>): void {
  describe(`broadcast, ${adapter}`, () => {
    let subject: BroadcastSubject;
    before(async () => {
      subject = await open();
    });
    after(() => subject.close());

    const hear = (topic: string) => {
      const heard = { messages: [] as BroadcastMessage[], missed: 0, end: (): void => undefined };
      heard.end = subject.broadcast.subscribe(topic, {
        onMessage: (message) => heard.messages.push(message),
        onMissed: () => (heard.missed += 1),
      });
      return heard;
    };

    test('a listener is told at first that it may have missed something', async () => {
      const listener = hear('first');
      await subject.until(async () => listener.missed === 1);
    });

    test('each listener of a topic gets each message whole, in order, and none of other topics', async () => {
      const [one, two, other] = [hear('topic'), hear('topic'), hear('other')];
      const messages = Array.from({ length: 100 }, (_, version) => ({
        topic: 'topic',
        tenantId: 't',
        key: 'k',
        version,
      }));
      for (const message of messages) subject.broadcast.publish(message);
      subject.broadcast.publish({ topic: 'other', version: 1 });
      await subject.until(async () => other.messages.length === 1);
      assert.deepEqual(one.messages, messages);
      assert.deepEqual(two.messages, messages);
      assert.deepEqual(other.messages, [{ topic: 'other', version: 1 }]);
    });

    test('a subscription that was ended hears nothing more', async () => {
      const [ended, living] = [hear('ending'), hear('ending')];
      ended.end();
      subject.broadcast.publish({ topic: 'ending', version: 1 });
      await subject.until(async () => living.messages.length === 1);
      assert.deepEqual(ended.messages, []);
    });

    test('a listener that throws takes nothing from the others', async () => {
      const fail = (): never => {
        throw new Error('a fault of the listener');
      };
      subject.broadcast.subscribe('throwing', { onMessage: fail, onMissed: fail });
      const listener = hear('throwing');
      subject.broadcast.publish({ topic: 'throwing', version: 1 });
      await subject.until(async () => listener.messages.length === 1);
    });
  });
}
