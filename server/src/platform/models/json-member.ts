/** Reading JSON of an unknown shape without trusting it and without a schema's cost. */

/** A member of a JSON object, or undefined: own members only, so `__proto__` and `constructor` are nothing special. */
export function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined;
}

export function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

/** A member that is a list; empty where it is none. */
export function listOf(value: unknown, name: string): readonly unknown[] {
  const list = member(value, name);
  return isList(list) ? list : [];
}

/** A member that is a text, or null. */
export function textOf(value: unknown, name: string): string | null {
  const text = member(value, name);
  return typeof text === 'string' ? text : null;
}

/** A member that counts something: a safe integer that is not negative, or null. */
export function countOf(value: unknown, name: string): number | null {
  const count = member(value, name);
  return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0 ? count : null;
}
