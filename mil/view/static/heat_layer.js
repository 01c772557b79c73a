/* Probabilities over the slide, in the colours of the overlay pictures. */

import { askBytes } from "./server.js";

const LEVELS = 255;

/** The share of a colour over the tissue: the root lifts the middle, near which stained tissue's own are. */
export function shareOf(value, opacity, faintest) {
  return opacity && faintest + (Math.max(opacity, faintest) - faintest) * Math.sqrt(value);
}

export class HeatLayer {
  /** `scored` has `raster` (width, height, cell_px, is_exact), `scale` has colours and the faintest opacity. */
  constructor(path, scored, scale, tiles) {
    this.path = path;
    this.raster = scored.raster;
    this.scale = scale;
    this.rasters = new Map();
    this.values = this.hot = new Float32Array(0);
    this.isShown = true;
    const { width, height } = this.raster;
    this.canvas = new OffscreenCanvas(width, height);
    this.tiles = tiles;
    this.near = new OffscreenCanvas(1, 1);
  }

  /** Return the values of a class, loaded if need be, and `hot`: of all positive ones where it is the likeliest. */
  async load(number) {
    if (!this.rasters.has(number)) {
      const asked = ["rasters", "hot"].map((kind) => askBytes(`${this.path}/${kind}/${number}`));
      this.rasters.set(number, (await Promise.all(asked)).map((bytes) => new Float32Array(bytes)));
    }
    return this.rasters.get(number);
  }

  /** Show what `load` has returned of a class from the next `colour` on. */
  take(number, [values, hot]) {
    Object.assign(this, { number, values, hot });
  }

  /** Colour the raster anew; what is not as `hot` as `least`, where that is not null, stays without colour. */
  colour(opacity, least) {
    const { width, height } = this.raster;
    const table = new Uint32Array(LEVELS + 1);
    const bytes = new Uint8Array(table.buffer);
    this.styles = [];
    for (let level = 0; level <= LEVELS; level++) {
      const share = shareOf(level / LEVELS, opacity, this.scale.faintest);
      bytes.set([...this.scale.colours[level], Math.round(share * 255)], 4 * level);
      this.styles.push(`rgb(${this.scale.colours[level].join(" ")} / ${share})`);
    }
    this.isColoured = (cell) => least === null || this.hot[cell] >= least;
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    this.values.forEach((value, cell) => {
      if (value >= 0 && this.isColoured(cell)) pixels[cell] = table[levelOf(value)];
    });
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  draw(context, place) {
    if (!this.isShown || !this.values.length) return;
    const { x, y, scale } = place;
    const { width, height, cell_px: cell, is_exact: isExact } = this.raster;
    if (!isExact && cell * scale > 1) {
      this.#drawTiles(context, place);
      return;
    }
    context.imageSmoothingEnabled = cell * scale < 1; // where several cells share a pixel, it is their mean
    context.drawImage(this.canvas, x, y, width * cell * scale, height * cell * scale);
  }

  /** Draw tiles one by one: the raster's cells are seen, and tiles do not end where they do. */
  #drawTiles(context, { x, y, scale, width, height }) {
    Object.assign(this.near, { width, height }); // which empties it
    const near = this.near.getContext("2d");
    const { corners, side } = this.tiles;
    for (let tile = 0; 2 * tile < corners.length; tile++) {
      const value = this.tiles.probabilityOf(tile, this.number);
      const [left, right] = [0, side].map((more) => Math.round(x + (corners[2 * tile] + more) * scale));
      const [top, bottom] = [0, side].map((more) => Math.round(y + (corners[2 * tile + 1] + more) * scale));
      if (!(value >= 0 && this.isColoured(this.#cellAt(tile))) || right < 0 || bottom < 0 || left > width || top > height) continue;
      near.clearRect(left, top, right - left, bottom - top); // where two lie, the later one is seen
      near.fillStyle = this.styles[levelOf(value)];
      near.fillRect(left, top, right - left, bottom - top);
    }
    context.drawImage(this.near, 0, 0);
  }

  /** The cell of the raster that holds the middle of a tile. */
  #cellAt(tile) {
    const { width, height, cell_px: cell } = this.raster;
    const [column, row] = this.tiles.corner(tile).map((edge) => Math.floor((edge + this.tiles.side / 2) / cell));
    return Math.min(row, height - 1) * width + Math.min(column, width - 1);
  }
}

const levelOf = (value) => Math.round(Math.min(Math.max(value, 0), 1) * LEVELS);
