/** When the room before the first item is given back. */
const compactAt = 1024;

/**
 * A queue, first in, first out, that lets go of what left it. (`Array.shift` moves all of a long array; a Map would keep
 * what it held alive, see roster.ts.)
 */
export class Fifo<Item> {
  readonly #items: (Item | null)[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  /** The item that many places behind the first; null where there is none. */
  at(index: number): Item | null {
    return this.#items[this.#head + index] ?? null;
  }

  /** Takes the first item out; null where there is none. */
  shift(): Item | null {
    if (this.#head >= this.#items.length) return null;
    const item = this.#items[this.#head] ?? null;
    this.#items[this.#head] = null;
    this.#head += 1;
    if (this.#head >= compactAt && this.#head * 2 >= this.#items.length) this.#compact();
    return item;
  }

  /** In place: a copy would leave the old array behind, and with it what it held. */
  #compact(): void {
    this.#items.copyWithin(0, this.#head);
    this.#items.length -= this.#head;
    this.#head = 0;
  }
}
