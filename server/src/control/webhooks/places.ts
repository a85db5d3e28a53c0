const putOffMs = 2_000;
const longestPutOffMs = 60_000;

/** A part of the places for rounds, and when those come back who found it full. */
export class PlaceShare {
  readonly #places: number;
  #taken = 0;
  #lastBackMs = 0;

  constructor(places: number) {
    this.#places = places;
  }

  get isFull(): boolean {
    return this.#taken >= this.#places;
  }

  get isEmpty(): boolean {
    return this.#taken === 0;
  }

  enter(): void {
    this.#taken += 1;
  }

  leave(): void {
    this.#taken -= 1;
  }

  /**
   * After two seconds at the earliest, and of many no more in two seconds than there are places: a thousand that come back
   * together each time would cost the database more than all that is sent. After a minute at the latest. Milliseconds of
   * the clock.
   */
  comeBackAt(nowMs: number): number {
    const wantedMs = Math.max(nowMs + putOffMs, this.#lastBackMs + putOffMs / this.#places);
    const backMs = Math.min(wantedMs, nowMs + longestPutOffMs);
    this.#lastBackMs = backMs;
    return backMs;
  }
}
