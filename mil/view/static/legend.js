/* The scale of the heatmap: its colours as they look over this slide's tissue, and the threshold. */

import { shareOf } from "./heat_layer.js";

const PAPER = [255, 255, 255];
const SIDE = 128; // of the picture in which the tissue's colour is looked for

/** The mean colour of what lies under the scores. */
export function tissueColour(overview, values, { width, height }) {
  const small = new OffscreenCanvas(SIDE, SIDE).getContext("2d", { willReadFrequently: true });
  small.drawImage(overview, 0, 0, SIDE, SIDE);
  const { data } = small.getImageData(0, 0, SIDE, SIDE);
  const sum = [0, 0, 0];
  let n = 0;
  for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
    const column = Math.floor((((pixel % SIDE) + 0.5) / SIDE) * width);
    const row = Math.floor(((Math.floor(pixel / SIDE) + 0.5) / SIDE) * height);
    if (Number.isNaN(values[row * width + column])) continue;
    for (let c = 0; c < 3; c++) sum[c] += data[4 * pixel + c];
    n += 1;
  }
  return n ? sum.map((total) => total / n) : PAPER;
}

/** Draw the colours of 0 to 1 from left to right, and the threshold where it has a place there. */
export function drawBar(canvas, scale, beneath, { opacity, mark, least }) {
  const ratio = window.devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  const [width, height] = [Math.round(box.width * ratio), Math.round(box.height * ratio)];
  if (!width || !height) return;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  for (let x = 0; x < width; x++) {
    const value = x / (width - 1);
    const isColoured = mark === null || least === null || value >= least;
    const share = isColoured ? shareOf(value, opacity, scale.faintest) : 0;
    const colour = scale.colours[Math.round(value * 255)];
    const shown = colour.map((part, c) => Math.round(part * share + beneath[c] * (1 - share)));
    context.fillStyle = `rgb(${shown.join(" ")})`;
    context.fillRect(x, 0, 1, height);
  }
  if (mark === null) return;
  const at = Math.round(mark * (width - 1));
  context.fillStyle = "white";
  context.fillRect(at - 2 * ratio, 0, 4 * ratio, height);
  context.fillStyle = "black";
  context.fillRect(at - ratio, 0, 2 * ratio, height);
}
