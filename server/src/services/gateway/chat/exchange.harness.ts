/** One chat server with a provider that the test drives, on a clock that the test moves. */
import { type ManualClock, manualClock } from '#kernel';
import {
  type ChatServer,
  type ChatServerOptions,
  DrivenProvider,
  openChatServer,
} from './chat-path.harness.ts';

export const chatPath = '/v1/chat/completions';
export const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };
export const streamed = { ...chat, stream: true };

export interface Opened extends ChatServer {
  readonly provider: DrivenProvider;
  readonly clock: ManualClock;
}

let opened: Opened | null = null;

/** At most one at a time; `closeOpened` closes it. */
export async function open(options: ChatServerOptions = {}): Promise<Opened> {
  const provider = new DrivenProvider();
  const clock = manualClock();
  opened = { ...(await openChatServer({ provider, clock, ...options })), provider, clock };
  return opened;
}

/** After each test. */
export async function closeOpened(): Promise<void> {
  await opened?.close();
  opened = null;
}

/** The code of an answer or a frame in its text; empty where there is none. */
export function errorCode(body: string): string {
  return /"code":"(\w+)"/.exec(body)?.[1] ?? '';
}
