import type { OutboundExchange, OutboundHeaders, OutboundListener } from '../outbound-types.ts';
import type { GuardedFault } from './guarded-types.ts';

export type OneAnswer =
  | {
      readonly outcome: 'answered';
      readonly status: number;
      readonly headers: OutboundHeaders;
      readonly body: Buffer;
      readonly isCut: boolean;
    }
  | { readonly outcome: 'failed'; readonly fault: GuardedFault };

export interface OneExchange {
  /** Milliseconds that are left; 0 and less is a timeout at once. */
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  readonly whenTooLarge: 'fail' | 'cut';
  readonly signal: AbortSignal | undefined;
}

function failed(kind: GuardedFault['kind'], detail: string): OneAnswer {
  const fault: GuardedFault =
    kind === 'timeout' ? { kind, code: null, detail } : { kind, code: null, detail };
  return { outcome: 'failed', fault };
}

/** One exchange as a promise, within its time and its bytes. Never rejects; the connection of what ends early is closed. */
export function exchangeOnce(
  dispatch: (listener: OutboundListener) => OutboundExchange,
  { timeoutMs, maxBodyBytes, whenTooLarge, signal }: OneExchange,
): Promise<OneAnswer> {
  if (timeoutMs <= 0) return Promise.resolve(failed('timeout', 'no time is left'));
  if (signal?.aborted === true) return Promise.resolve(failed('cancelled', 'cancelled by the caller'));
  const { promise, resolve } = Promise.withResolvers<OneAnswer>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  let head: { status: number; headers: OutboundHeaders } = { status: 0, headers: {} };
  const end = (answer: OneAnswer): void => {
    resolve(answer);
    exchange.cancel();
  };
  const exchange = dispatch({
    onHead: (status, headers) => {
      head = { status, headers };
    },
    onData(chunk) {
      const left = maxBodyBytes - bytes;
      bytes += chunk.length;
      if (left > 0) chunks.push(chunk.length > left ? chunk.subarray(0, left) : chunk);
      if (bytes <= maxBodyBytes) return true;
      if (whenTooLarge === 'fail') end(failed('too_large', `the body is over ${maxBodyBytes} bytes`));
      else end({ outcome: 'answered', ...head, body: Buffer.concat(chunks), isCut: true });
      return false;
    },
    onEnd: () => resolve({ outcome: 'answered', ...head, body: Buffer.concat(chunks), isCut: false }),
    onFault: (fault) => resolve({ outcome: 'failed', fault }),
  });
  const timer = setTimeout(() => end(failed('timeout', 'the answer took too long')), timeoutMs);
  const cancel = (): void => end(failed('cancelled', 'cancelled by the caller'));
  signal?.addEventListener('abort', cancel, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', cancel);
  });
}
