/* Probabilities over the slide, in the colours of the overlay pictures. */

import { askBytes } from "./server.js";

const LEVELS = 255;

/** The share of a colour over the tissue: the root lifts the middle, near which stained tissue's own are. */
export function shareOf(value, opacity, faintest) {
  return opacity && faintest + (Math.max(opacity, faintest) - faintest) * Math.sqrt(value);
}

export class HeatLayer {
  /** `scored` has `raster` (width, height, cell_px), `scale` has colours and the faintest opacity. */
  constructor(path, scored, scale) {
    this.path = path;
    this.raster = scored.raster;
    this.scale = scale;
    this.rasters = new Map();
    this.values = new Float32Array(0);
    this.isShown = true;
    const { width, height } = this.raster;
    this.canvas = new OffscreenCanvas(width, height);
  }

  /** Take the values of a class, loaded if need be. */
  async choose(number) {
    if (!this.rasters.has(number)) {
      const bytes = await askBytes(`${this.path}/rasters/${number}`);
      this.rasters.set(number, new Float32Array(bytes));
    }
    this.values = this.rasters.get(number);
  }

  /** Colour the raster anew; what is below `least` stays without colour. */
  colour(opacity, least) {
    const { width, height } = this.raster;
    const table = new Uint32Array(LEVELS + 1);
    const bytes = new Uint8Array(table.buffer);
    for (let level = 0; level <= LEVELS; level++) {
      const share = shareOf(level / LEVELS, opacity, this.scale.faintest);
      bytes.set([...this.scale.colours[level], Math.round(share * 255)], 4 * level);
    }
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    this.values.forEach((value, cell) => {
      if (value >= least) pixels[cell] = table[Math.round(Math.min(Math.max(value, 0), 1) * LEVELS)];
    });
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  draw(context, { x, y, scale }) {
    if (!this.isShown || !this.values.length) return;
    const { width, height, cell_px: cell } = this.raster;
    context.imageSmoothingEnabled = cell * scale < 1; // where several cells share a pixel, it is their mean
    context.drawImage(this.canvas, x, y, width * cell * scale, height * cell * scale);
  }
}
