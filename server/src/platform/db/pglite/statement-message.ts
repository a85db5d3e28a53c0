/**
 * One statement with its parameters as bytes of PostgreSQL's protocol (version 3): Parse, Bind, Describe, Execute, Sync.
 *
 * PGlite's own `query` walks each parameter character by character and grows its buffer in steps: 7 us for each 1,000
 * characters, more than PostgreSQL then needs to write them. Here it is one copy into a buffer of the right size: 1 us.
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */

import type { EncodedParameter } from '../session.ts';

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

const describePortal = message('D', Buffer.from('P\0'));
const execute = message('E', Buffer.alloc(5));
const sync = message('S', Buffer.alloc(0));

function lengthOf(text: string | Uint8Array): number {
  return typeof text === 'string' ? Buffer.byteLength(text) : text.length;
}

/** All parameters are texts, their types are left to the statement, and the results come as text. */
export function statementMessage(sql: string, parameters: readonly EncodedParameter[]): Uint8Array {
  const parse = message('P', Buffer.concat([Buffer.alloc(1), Buffer.from(sql), Buffer.alloc(3)]));
  const sizes = parameters.map((text) => (text === null ? -1 : lengthOf(text)));
  // Length, names of portal and statement, formats of parameters, their number, and formats of results: all but the texts.
  const bindBytes = sizes.reduce((sum, size) => sum + 4 + Math.max(0, size), 4 + 2 + 2 + 2 + 2);
  const bytes = Buffer.alloc(
    parse.length + 1 + bindBytes + describePortal.length + execute.length + sync.length,
  );
  let end = parse.copy(bytes);
  end += bytes.write('B', end, 'latin1');
  end = bytes.writeInt32BE(bindBytes, end) + 4;
  end = bytes.writeInt16BE(parameters.length, end);
  for (const [index, text] of parameters.entries()) {
    end = bytes.writeInt32BE(sizes[index] ?? -1, end);
    if (typeof text === 'string') end += bytes.write(text, end);
    else if (text !== null) {
      bytes.set(text, end);
      end += text.length;
    }
  }
  end += 2;
  for (const part of [describePortal, execute, sync]) end += part.copy(bytes, end);
  return bytes;
}
