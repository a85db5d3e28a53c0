import { readFileSync } from 'node:fs';

let document: unknown;

/** The generated document, read when it is first asked for. */
export function openapiDocument(): unknown {
  document ??= JSON.parse(readFileSync(new URL(import.meta.resolve('@stoa/contracts/openapi.json')), 'utf8'));
  return document;
}
