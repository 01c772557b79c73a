/* Lines over the slide: its tissue, the regions above the threshold, the tile that is looked at. */

export class LineLayer {
  constructor(scored, tiles) {
    this.cellPx = scored.raster.cell_px;
    this.tilePx = scored.tile_px;
    this.tiles = tiles;
    this.unread = tiles.unread;
    this.tissue = ringsOf(scored.tissue);
    this.regions = new Path2D();
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
    context.lineJoin = "round";
    if (this.isTissueShown) stroke(this.tissue, 1, 1.25, "rgb(80 80 86 / 0.9)");
    stroke(this.#crosses(), 1, 1, "rgb(190 30 45)");
    if (this.areRegionsShown) {
      stroke(this.regions, this.cellPx, 3, "rgb(255 255 255 / 0.55)");
      stroke(this.regions, this.cellPx, 1.5, "black");
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
