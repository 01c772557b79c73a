/* The small picture of the whole slide, with a frame around what is seen. */

const LONGEST_PX = 170;

export class Overview {
  /** `layers` are drawn over the slide; `moved` is called with the place that was pressed, in level-0 pixels. */
  constructor(canvas, sizePx, layers, moved) {
    this.canvas = canvas;
    this.layers = layers;
    this.ratio = window.devicePixelRatio || 1;
    this.scale = LONGEST_PX / Math.max(...sizePx);
    const [width, height] = sizePx.map((side) => Math.max(8, Math.round(side * this.scale)));
    Object.assign(canvas, { width: width * this.ratio, height: height * this.ratio });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const go = (event) => {
      const box = canvas.getBoundingClientRect();
      moved((event.clientX - box.left) / this.scale, (event.clientY - box.top) / this.scale);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && go(event));
  }

  draw(picture, view) {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const scale = this.scale * this.ratio;
    const [left, top] = view.toSlide(0, 0).map((place) => place * scale);
    const [right, bottom] = view.toSlide(view.screen.width, view.screen.height).map((place) => place * scale);
    const isAllSeen = left <= 0 && top <= 0 && right >= width && bottom >= height;
    this.canvas.style.visibility = isAllSeen ? "hidden" : ""; // it would only cover a corner of the slide
    if (isAllSeen) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.imageSmoothingEnabled = true;
    context.clearRect(0, 0, width, height);
    if (picture) context.drawImage(picture, 0, 0, width, height);
    for (const layer of this.layers) layer.draw(context, { x: 0, y: 0, scale, width, height });
    for (const [colour, line] of [["white", 4], ["rgb(0 100 220)", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = line * this.ratio;
      context.strokeRect(left, top, right - left, bottom - top);
    }
  }
}
