/* The slide itself, in squares of the size that the screen can show, loaded as they come into view. */

import { NoAnswer, askPicture } from "./server.js";

const AT_ONCE = 6; // requests; a browser makes no more of them to one server
const MOST_KEPT = 500; // squares of 256 kB
const AGAIN_MS = 2000; // until a server that did not answer is asked again
const COARSER = 0.25; // of a halving: rather a little blurred than four times the squares

export class SlideLayer {
  /** `picture` has size_px, most_halvings and square_px; `changed` is called when a square has come. */
  constructor(path, picture, changed) {
    this.path = path;
    this.picture = picture;
    this.changed = changed;
    this.squares = new Map(); // by name, those used last at the end; null where one cannot be read
    this.coming = new Map();
    this.wanted = [];
    this.problem = null;
    this.isPausing = false;
  }

  /** Which squares fill the view, the nearest to its middle first. */
  #inView({ scale, x, y, width, height }) {
    const finest = Math.floor(Math.log2(1 / scale) + COARSER);
    const halvings = Math.min(Math.max(finest, 0), this.picture.most_halvings);
    const side = this.picture.square_px * 2 ** halvings;
    const [columns, rows] = this.picture.size_px.map((size) => Math.ceil(size / side));
    const [left, top, right, bottom] = [-x, -y, width - x, height - y].map((edge) => edge / scale / side);
    const found = [];
    for (let row = Math.max(0, Math.floor(top)); row < Math.min(rows, bottom); row++)
      for (let column = Math.max(0, Math.floor(left)); column < Math.min(columns, right); column++) {
        const away = Math.hypot(column + 0.5 - (left + right) / 2, row + 0.5 - (top + bottom) / 2);
        found.push({ halvings, column, row, away });
      }
    return found.sort((one, other) => one.away - other.away);
  }

  draw(context, place) {
    const top = { halvings: this.picture.most_halvings, column: 0, row: 0 };
    const squares = this.#inView(place);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    for (const square of squares) this.#drawSquare(context, place, square);
    this.wanted = [top, ...squares].filter((square) => !this.squares.has(nameOf(square)));
    this.#load();
    return this.wanted.length === 0;
  }

  /** Draw a square, or what there is of a coarser one in its place. */
  #drawSquare(context, place, square) {
    for (let up = 0; square.halvings + up <= this.picture.most_halvings; up++) {
      const { halvings, column, row } = square;
      const name = nameOf({ halvings: halvings + up, column: column >> up, row: row >> up });
      const bitmap = this.squares.get(name);
      if (!bitmap) continue;
      this.squares.delete(name);
      this.squares.set(name, bitmap);
      const [x0, y0, x1, y1] = this.#box(square);
      const [X0, Y0, X1, Y1] = this.#box({ halvings: halvings + up, column: column >> up, row: row >> up });
      const [across, down] = [bitmap.width / (X1 - X0), bitmap.height / (Y1 - Y0)];
      const [left, right] = [x0, x1].map((x) => Math.round(place.x + x * place.scale));
      const [above, below] = [y0, y1].map((y) => Math.round(place.y + y * place.scale));
      context.drawImage(
        bitmap, (x0 - X0) * across, (y0 - Y0) * down, (x1 - x0) * across, (y1 - y0) * down,
        left, above, right - left, below - above,
      );
      return;
    }
  }

  /** Left, top, right and bottom of a square in level-0 pixels, cut at the slide's border. */
  #box({ halvings, column, row }) {
    const side = this.picture.square_px * 2 ** halvings;
    const [width, height] = this.picture.size_px;
    const [right, bottom] = [Math.min((column + 1) * side, width), Math.min((row + 1) * side, height)];
    return [column * side, row * side, right, bottom];
  }

  #load() {
    if (this.isPausing) return;
    const names = new Set(this.wanted.map(nameOf));
    for (const [name, stop] of this.coming) if (!names.has(name)) stop.abort();
    for (const square of this.wanted) {
      if (this.coming.size >= AT_ONCE) break;
      if (!this.coming.has(nameOf(square))) this.#fetch(square);
    }
  }

  async #fetch(square) {
    const name = nameOf(square);
    const stop = new AbortController();
    this.coming.set(name, stop);
    try {
      this.#keep(name, await askPicture(`${this.path}/squares/${name}`, stop.signal));
      if (this.problem instanceof NoAnswer) this.problem = null;
    } catch (error) {
      if (error.name !== "AbortError") this.problem = error;
      if (error instanceof NoAnswer) this.#pause();
      else if (error.name !== "AbortError") this.#keep(name, null);
    }
    this.coming.delete(name);
    this.changed();
  }

  #pause() {
    if (this.isPausing) return;
    this.isPausing = true;
    setTimeout(() => {
      this.isPausing = false;
      this.changed();
    }, AGAIN_MS);
  }

  #keep(name, bitmap) {
    this.squares.set(name, bitmap);
    for (const [old, dropped] of this.squares) {
      if (this.squares.size <= MOST_KEPT) break;
      dropped?.close();
      this.squares.delete(old);
    }
  }

  /** The whole slide in one picture, once it has come. */
  get overview() {
    return this.squares.get(nameOf({ halvings: this.picture.most_halvings, column: 0, row: 0 }));
  }
}

function nameOf({ halvings, column, row }) {
  return `${halvings}/${column}/${row}`;
}
