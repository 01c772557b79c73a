/* Regions: pieces of a raster at or above a threshold, and the line around them. */

/**
 * Find the pieces whose cells share an edge, those of the highest probability first, and among equals the
 * larger; places are in cells, `sum` and `most` of their probabilities.
 */
export function findRegions(values, width, threshold) {
  const seen = new Uint8Array(values.length);
  const regions = [];
  for (let first = 0; first < values.length; first++)
    if (!seen[first] && values[first] >= threshold) regions.push(piece(values, width, threshold, seen, first));
  return regions.sort((one, other) => other.most - one.most || other.cells - one.cells);
}

function piece(values, width, threshold, seen, first) {
  const region = { cells: 0, sum: 0, most: 0, left: width, top: Infinity, right: 0, bottom: 0 };
  const waiting = [first];
  seen[first] = 1;
  while (waiting.length) {
    const cell = waiting.pop();
    const column = cell % width;
    const row = (cell - column) / width;
    region.cells += 1;
    region.sum += values[cell];
    region.most = Math.max(region.most, values[cell]);
    region.left = Math.min(region.left, column);
    region.right = Math.max(region.right, column + 1);
    region.top = Math.min(region.top, row);
    region.bottom = Math.max(region.bottom, row + 1);
    const beside = [cell - width, cell + width];
    if (column > 0) beside.push(cell - 1);
    if (column < width - 1) beside.push(cell + 1);
    for (const next of beside)
      if (!seen[next] && values[next] >= threshold) {
        seen[next] = 1;
        waiting.push(next);
      }
  }
  return region;
}

/**
 * Return the edges between cells at or above the threshold and others, runs of them joined: left, top, right
 * and bottom of each, in cells, one after the other.
 */
export function regionEdges(values, width, height, threshold) {
  const edges = [];
  const isIn = (column, row) =>
    column >= 0 && row >= 0 && column < width && row < height && values[row * width + column] >= threshold;
  for (let row = 0; row <= height; row++)
    runs(width, (column) => isIn(column, row - 1) !== isIn(column, row), (from, to) => edges.push(from, row, to, row));
  for (let column = 0; column <= width; column++)
    runs(height, (row) => isIn(column - 1, row) !== isIn(column, row), (from, to) =>
      edges.push(column, from, column, to));
  return edges;
}

function runs(length, isEdge, found) {
  for (let at = 0; at < length; at++) {
    if (!isEdge(at)) continue;
    const from = at;
    while (at < length && isEdge(at)) at++;
    found(from, at);
  }
}
