import { usageFailure } from './failure.ts';

/** No request may be larger than this by default, so nothing longer is read. */
const maximumInputBytes = 20 * 1024 * 1024;

/** All of a stream as UTF-8 text; a usage fault where it is no UTF-8 or over 20 MiB. */
export async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of stream) {
    const bytes = Buffer.from(part);
    length += bytes.length;
    if (length > maximumInputBytes) throw usageFailure('Standard input is over 20 MiB.');
    parts.push(bytes);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts));
  } catch (cause) {
    if (cause instanceof TypeError) throw usageFailure('Standard input is not valid UTF-8.');
    throw cause;
  }
}
