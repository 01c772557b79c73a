/* The canvas on which a slide lies, its layers drawn one over the other whenever something has changed. */

import { Viewport } from "./viewport.js";

export class Stage {
  constructor(canvas, sizePx) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.view = new Viewport(sizePx);
    this.layers = []; // each draws itself, and returns false while something of it is still to come
    this.isWaiting = true; // for layers that are still to come
    this.whenDrawn = () => {};
    this.due = new Set();
    this.frame = 0;
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.#resize();
    document.addEventListener("themechange", () => this.redraw());
  }

  redraw() {
    this.canvas.setAttribute("aria-busy", "true");
    if (!this.frame) this.frame = requestAnimationFrame((time) => this.#draw(time));
  }

  /** Have something done before the next drawing: once, however often a control moves until then. */
  later(does) {
    this.due.add(does);
    this.redraw();
  }

  /** Do what is due at once. */
  settle() {
    for (const does of this.due) does();
    this.due.clear();
  }

  #resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(height * this.ratio);
    this.view.resize(width, height);
    this.redraw();
  }

  #draw(time) {
    this.frame = 0;
    this.settle();
    const isMoving = this.view.step(time);
    const place = this.view.placed(this.ratio);
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(this.canvas).backgroundColor;
    context.fillRect(0, 0, place.width, place.height);
    const done = this.layers.map((layer) => layer.draw(context, place, this.ratio) !== false);
    this.whenDrawn(isMoving);
    this.canvas.setAttribute("aria-busy", String(this.isWaiting || isMoving || done.includes(false)));
    if (isMoving) this.redraw();
  }
}
