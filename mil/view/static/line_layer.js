/* Lines over the slide: its tissue, the regions above the threshold, the tile that is looked at. */

const THIN_PX = 12; // cells smaller than that have thin edges

export class LineLayer {
  constructor(scored, tiles) {
    this.cellPx = scored.raster.cell_px;
    this.tilePx = scored.tile_px;
    this.tiles = tiles;
    this.unread = tiles.unread;
    this.tissue = ringsOf(scored.tissue);
    this.edges = []; // of regions, in cells
    this.chosen = null; // a region, in cells
    this.tile = null;
    this.isTissueShown = true;
    this.areRegionsShown = true;
  }

  draw(context, place, ratio) {
    const { x, y, scale } = place;
    const stroke = (path, unit, width, colour) => {
      context.setTransform(scale * unit, 0, 0, scale * unit, x, y);
      context.lineWidth = (width * ratio) / (scale * unit);
      context.strokeStyle = colour;
      context.stroke(path);
    };
    if (this.isTissueShown) stroke(this.tissue, 1, 1 / ratio, "rgb(80 80 86)"); // any wider, and long ones cost much
    stroke(this.#crosses(), 1, 1, "rgb(190 30 45)");
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (this.areRegionsShown) {
      const bar = Math.round(ratio) * (this.cellPx * scale < THIN_PX * ratio ? 1 : 2);
      this.#drawEdges(context, place, bar + 2, "rgb(255 255 255 / 0.6)");
      this.#drawEdges(context, place, bar, "black");
    }
    if (this.chosen) stroke(boxOf(this.chosen, 4 / (scale * this.cellPx)), this.cellPx, 2, "rgb(0 120 255)");
    if (this.tile !== null) {
      const [left, top] = this.tiles.corner(this.tile);
      const path = new Path2D();
      path.rect(left, top, this.tilePx, this.tilePx);
      stroke(path, 1, 2, "white");
      stroke(path, 1, 1, "black");
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** Fill the edges of regions as bars: there are many of them, and bars are drawn faster than lines. */
  #drawEdges(context, { x, y, scale, width, height }, bar, colour) {
    const cell = this.cellPx * scale;
    const { edges } = this;
    context.fillStyle = colour;
    for (let at = 0; at < edges.length; at += 4) {
      const left = Math.round(x + edges[at] * cell - bar / 2);
      const top = Math.round(y + edges[at + 1] * cell - bar / 2);
      const right = Math.round(x + edges[at + 2] * cell - bar / 2) + bar;
      const bottom = Math.round(y + edges[at + 3] * cell - bar / 2) + bar;
      if (right < 0 || bottom < 0 || left > width || top > height) continue;
      context.fillRect(left, top, right - left, bottom - top);
    }
  }

  /** A cross through each tile that could not be read. */
  #crosses() {
    const path = new Path2D();
    for (const tile of this.unread) {
      const [left, top] = this.tiles.corner(tile);
      const [right, bottom] = [left + this.tilePx, top + this.tilePx];
      path.rect(left, top, this.tilePx, this.tilePx);
      path.moveTo(left, top);
      path.lineTo(right, bottom);
      path.moveTo(left, bottom);
      path.lineTo(right, top);
    }
    return path;
  }
}

function ringsOf(polygons) {
  const path = new Path2D();
  for (const ring of polygons.flat()) {
    ring.forEach(([x, y], number) => (number ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}

function boxOf({ left, top, right, bottom }, around) {
  const path = new Path2D();
  path.rect(left - around, top - around, right - left + 2 * around, bottom - top + 2 * around);
  return path;
}
