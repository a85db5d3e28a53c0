import { isDeepStrictEqual } from 'node:util';
import type { CallMethod, ServiceApi } from '@stoa/contracts';
import { AppError, type Clock, newUuid, parseJsonBody, toAppError } from '#kernel';
import { runBounded } from './call-context.ts';
import { eachMethod, methodOf } from './services.ts';
import type { CallContext, PlainService, ServiceOf } from './types.ts';
import {
  readAnswer,
  readContext,
  readEnvelope,
  readInput,
  writeCall,
  writeError,
  writeOutput,
} from './wire.ts';

/**
 * The test mode of local calls: each goes through the codec both ways, as it would between processes, and each idempotent
 * one is made twice with the same key. What only works because both sides share memory, or only the first time, fails here
 * without a network.
 * @throws AppError (from a method) `internal_error` whose cause says how the second answer differs from the first
 */
export function codecService<Api extends ServiceApi>(
  api: Api,
  service: ServiceOf<Api>,
  clock: Clock,
): ServiceOf<Api>;
export function codecService(api: ServiceApi, service: PlainService, clock: Clock): PlainService {
  return eachMethod(api, (name, method) => {
    const run = methodOf(service, api.service, name);
    const place = `${api.service}.${name}`;
    return (input, call) =>
      runBounded(clock, place, method.timeoutMs, call, async (bounded) => {
        if (!method.isIdempotent) return reading(method, await pass(method, run, clock, bounded, input));
        const keyed = { ...bounded, idempotencyKey: call.idempotencyKey ?? newUuid() };
        const first = await pass(method, run, clock, keyed, input);
        const second = await pass(method, run, clock, keyed, input);
        if (!isDeepStrictEqual(JSON.parse(first), JSON.parse(second)))
          throw notIdempotent(place, first, second);
        return reading(method, first);
      });
  });
}

/** One call as the receiving side sees it; gives the bytes of its answer. */
async function pass(
  method: CallMethod,
  run: PlainService[string],
  clock: Clock,
  call: CallContext,
  input: unknown,
): Promise<string> {
  const written = writeCall(method, call, input, Math.max(1, call.deadlineAtMs - clock.monotonic()));
  const envelope = readEnvelope(parseJsonBody(Buffer.from(written)));
  try {
    const output = await run(readInput(method, envelope), readContext(envelope, clock, call.signal));
    return writeOutput(method, output);
  } catch (error) {
    if (toAppError(error).code === 'internal_error') throw error;
    return writeError(toAppError(error));
  }
}

function reading(method: CallMethod, answer: string): unknown {
  const found = readAnswer(method, parseJsonBody(Buffer.from(answer)));
  if (found === null) throw new TypeError('the answer is not one of a method');
  return found.output;
}

function notIdempotent(place: string, first: string, second: string): AppError {
  const cause = new Error(
    `${place} is declared idempotent, but a second call with its key answered ${second.slice(0, 200)} after ${first.slice(0, 200)}`,
  );
  return new AppError('internal_error', 'Something went wrong on our side.', { cause });
}
