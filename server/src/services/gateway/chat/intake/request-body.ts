import { isUtf8 } from 'node:buffer';
import { AppError, parseJsonBody } from '#kernel';
import { isJsonObject, type JsonObject } from './fields.ts';
import { type NameSet, type ScannedObject, scanObject } from './member-scan.ts';

export interface ReadBody {
  readonly json: JsonObject;
  readonly scan: ScannedObject;
}

/**
 * Parses a body that must be one JSON object, and finds where the wanted members lie in it.
 * @throws `invalid_encoding`, `invalid_json`, `json_too_deep`, `invalid_request`
 */
export function readObjectBody(body: Buffer, wanted: NameSet): ReadBody {
  if (!isUtf8(body)) throw new AppError('invalid_encoding', 'The body is not valid UTF-8.');
  // Before the parse, because it bounds what the parse can cost.
  const scan = scanObject(body, wanted);
  if (scan === null) {
    parseJsonBody(body);
    throw new AppError('invalid_request', 'The body must be a JSON object.');
  }
  const json = parse(body);
  if (!isJsonObject(json)) throw new AppError('invalid_request', 'The body must be a JSON object.');
  return { json, scan };
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return parseJsonBody(body); // Fails again, with the coded error.
  }
}
