/**
 * A map of at most `capacity` entries that makes its values on demand and lets the least recently used one go.
 *
 * The order of use is kept only while more than half of the capacity is taken: below that nothing can be pushed out soon,
 * and a look-up then costs one hash instead of three.
 */
export class BoundedMap<Key, Value> {
  readonly #entries = new Map<Key, Value>();
  readonly #capacity: number;
  readonly #make: (key: Key) => Value;

  constructor(capacity: number, make: (key: Key) => Value) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) throw new RangeError('capacity must be at least 1');
    this.#capacity = capacity;
    this.#make = make;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The entry of `key`, made where there is none. */
  get(key: Key): Value {
    const found = this.#entries.get(key);
    if (found === undefined) return this.#add(key);
    if (this.#entries.size * 2 > this.#capacity) {
      this.#entries.delete(key);
      this.#entries.set(key, found);
    }
    return found;
  }

  /** The entry of `key` where there is one; neither makes nor counts as a use. */
  peek(key: Key): Value | undefined {
    return this.#entries.get(key);
  }

  values(): IterableIterator<Value> {
    return this.#entries.values();
  }

  #add(key: Key): Value {
    if (this.#entries.size >= this.#capacity) {
      const oldest = this.#entries.keys().next();
      if (oldest.done !== true) this.#entries.delete(oldest.value);
    }
    const made = this.#make(key);
    this.#entries.set(key, made);
    return made;
  }
}
