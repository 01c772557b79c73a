/* The tiles of a slide with their probabilities, found by place. */

export class TileTable {
  /** `bytes` hold (x, y) float64 of each tile, then its probabilities float32. */
  constructor(bytes, { n_tiles: n, tile_px: side, classes }) {
    this.side = side;
    this.classes = classes;
    this.corners = new Float64Array(bytes, 0, 2 * n);
    this.probability = new Float32Array(bytes, 16 * n, n * classes.length);
    this.buckets = new Map();
    for (let tile = 0; tile < n; tile++) {
      const name = this.#bucket(this.corners[2 * tile], this.corners[2 * tile + 1]);
      if (!this.buckets.has(name)) this.buckets.set(name, []);
      this.buckets.get(name).push(tile);
    }
  }

  #bucket(x, y) {
    return `${Math.floor(x / this.side)},${Math.floor(y / this.side)}`;
  }

  /** Return the tiles over a place, in their order. */
  at(x, y) {
    const found = [];
    for (const left of [x - this.side, x])
      for (const top of [y - this.side, y])
        for (const tile of this.buckets.get(this.#bucket(left, top)) ?? []) {
          const [dx, dy] = [x - this.corners[2 * tile], y - this.corners[2 * tile + 1]];
          if (dx >= 0 && dy >= 0 && dx < this.side && dy < this.side) found.push(tile);
        }
    return found.sort((one, other) => one - other);
  }

  /** Return the mean probability of each class over some tiles, of those that were read. */
  mean(tiles) {
    const read = tiles.filter((tile) => !this.isUnread(tile));
    return this.classes.map((_, number) =>
      read.reduce((sum, tile) => sum + this.probabilityOf(tile, number), 0) / read.length);
  }

  /** The probability of a class; of one more than there are, that of all but the first together. */
  probabilityOf(tile, number) {
    const own = this.probability.subarray(tile * this.classes.length, (tile + 1) * this.classes.length);
    return number < own.length ? own[number] : own.subarray(1).reduce((sum, value) => sum + value, 0);
  }

  isUnread(tile) {
    return this.classes.length > 0 && Number.isNaN(this.probabilityOf(tile, 0));
  }

  corner(tile) {
    return [this.corners[2 * tile], this.corners[2 * tile + 1]];
  }

  /** The tiles that could not be read, of which nobody knows anything. */
  get unread() {
    const tiles = Array.from({ length: this.corners.length / 2 }, (_, tile) => tile);
    return tiles.filter((tile) => this.isUnread(tile));
  }
}
