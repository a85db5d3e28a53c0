/**
 * The clients of the failure tests: chats at a steady rate whatever the answers do, and what each client saw of its own.
 */
import { Agent, request } from 'undici';

export interface ClientView {
  /** `x-request-id` of every answer that was read to its end with 200, and which of the keys asked, by its place. */
  readonly completed: Map<string, number>;
  /** Requests that got an answer which said no, by status and code. */
  readonly refused: Map<string, number>;
  /** Requests whose connection ended without a whole answer, with the time of their start and end. */
  readonly lost: { readonly startedMs: number; readonly endedMs: number; readonly cause: string }[];
  sent: number;
  /** The longest time between two completed answers, milliseconds. */
  longestGapMs: number;
}

export interface Load {
  readonly view: ClientView;
  /** Requests that are under way. */
  readonly inFlight: number;
  /** Sends no more and waits for what is under way. */
  stop(): Promise<ClientView>;
}

export interface LoadSettings {
  readonly url: string;
  readonly keys: readonly string[];
  readonly perSecond: number;
  readonly models: readonly string[];
  /** How long a client waits for its answer. */
  readonly timeoutMs: number;
}

/**
 * The keys ask in turn, and every third chat is a stream. What a client may name is the same for all keys: the end user, the
 * text and its own id of the request.
 */
export function startLoad(settings: LoadSettings): Load {
  const view: ClientView = { completed: new Map(), refused: new Map(), lost: [], sent: 0, longestGapMs: 0 };
  const agent = new Agent({ connections: 512, pipelining: 1, connect: { timeout: 2_000 } });
  const running = new Set<Promise<void>>();
  const startedAt = performance.now();
  let lastCompletedMs = startedAt;
  const send = async (index: number): Promise<void> => {
    const startedMs = performance.now();
    view.sent += 1;
    try {
      const seen = await ask(agent, settings, index);
      if (seen.status === 200) {
        view.completed.set(seen.id, index % settings.keys.length);
        const now = performance.now();
        view.longestGapMs = Math.max(view.longestGapMs, now - lastCompletedMs);
        lastCompletedMs = now;
      } else {
        const key = `${seen.status} ${seen.code}`;
        view.refused.set(key, (view.refused.get(key) ?? 0) + 1);
      }
    } catch (error) {
      const cause = error instanceof Error ? error.message : String(error);
      view.lost.push({ startedMs, endedMs: performance.now(), cause });
    }
  };
  let next = 0;
  const timer = setInterval(() => {
    const due = ((performance.now() - startedAt) * settings.perSecond) / 1_000;
    while (next < due) {
      const one = send(next++).finally(() => running.delete(one));
      running.add(one);
    }
  }, 2);
  return {
    view,
    get inFlight() {
      return running.size;
    },
    async stop() {
      clearInterval(timer);
      while (running.size > 0) await Promise.all(running);
      await agent.destroy();
      return view;
    },
  };
}

async function ask(
  agent: Agent,
  { url, keys, models, timeoutMs }: LoadSettings,
  index: number,
): Promise<{ status: number; id: string; code: string }> {
  const isStream = index % 3 === 0;
  const answer = await request(`${url}/v1/chat/completions`, {
    dispatcher: agent,
    method: 'POST',
    headers: {
      authorization: `Bearer ${keys[index % keys.length] ?? ''}`,
      'content-type': 'application/json',
      'x-request-id': `call-${Math.floor(index / keys.length)}`,
    },
    body: JSON.stringify({
      model: models[index % models.length],
      messages: [{ role: 'user', content: `Where is parcel ${Math.floor(index / keys.length)}?` }],
      user: 'same user',
      stream: isStream,
    }),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await answer.body.text();
  const id = String(answer.headers['x-request-id']);
  if (answer.statusCode !== 200) return { status: answer.statusCode, id, code: codeIn(text) };
  if (isStream && !text.trimEnd().endsWith('data: [DONE]')) {
    // An error in band is an answer that says no; an end without either is a loss.
    if (text.includes('"error"'))
      return { status: 599, id, code: codeIn(text.slice(text.lastIndexOf('data: ') + 6)) };
    throw new Error('a stream ended in silence');
  }
  return { status: 200, id, code: '' };
}

function codeIn(text: string): string {
  return /"code":\s*"([a-z_]+)"/.exec(text)?.[1] ?? 'no code';
}
