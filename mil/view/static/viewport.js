/* Which part of a slide is seen: its middle in level-0 pixels, and screen pixels to one of them. */

const MOST_SCALE = 16;
const EASE_MS = 90; // a movement is over to 1/e in this time
const NEAR = 1e-3;

export class Viewport {
  constructor([width, height]) {
    this.slide = { width, height };
    this.screen = { width: 1, height: 1 };
    this.now = { x: width / 2, y: height / 2, scale: 1 };
    this.aim = { ...this.now };
    this.isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.stepped = 0;
  }

  get whole() {
    const { width, height } = this.screen;
    return Math.min(width / this.slide.width, height / this.slide.height) * 0.94;
  }

  /** Be told the size of the stage in CSS pixels. */
  resize(width, height) {
    const isFirst = this.screen.width === 1;
    this.screen = { width, height };
    if (isFirst) this.fit(true);
  }

  /** Show the whole slide. */
  fit(atOnce = false) {
    this.go({ x: this.slide.width / 2, y: this.slide.height / 2, scale: this.whole }, atOnce);
  }

  /** Show a box of level-0 pixels with something around it. */
  show({ left, top, right, bottom }) {
    const { width, height } = this.screen;
    const scale = Math.min(width / (right - left), height / (bottom - top)) * 0.6;
    this.go({ x: (left + right) / 2, y: (top + bottom) / 2, scale: Math.min(scale, 1) });
  }

  go({ x, y, scale }, atOnce = false) {
    this.fixed = null;
    this.aim = { x, y, scale: Math.min(Math.max(scale, this.whole / 2), MOST_SCALE) };
    this.#keepInside();
    if (atOnce || this.isCalm) this.now = { ...this.aim };
  }

  /** Zoom so that what is under a point of the screen stays there. */
  zoom(factor, screenX = this.screen.width / 2, screenY = this.screen.height / 2) {
    const [x, y] = this.toSlide(screenX, screenY);
    const scale = Math.min(Math.max(this.aim.scale * factor, this.whole / 2), MOST_SCALE);
    const dx = screenX - this.screen.width / 2;
    const dy = screenY - this.screen.height / 2;
    this.aim = { x: x - dx / scale, y: y - dy / scale, scale };
    this.#keepInside();
    this.fixed = { x, y, dx, dy };
    if (this.isCalm) this.now = { ...this.aim };
  }

  /** Move by screen pixels. */
  pan(dx, dy, atOnce = false) {
    const { x, y, scale } = atOnce ? this.now : this.aim;
    this.go({ x: x - dx / scale, y: y - dy / scale, scale }, atOnce);
  }

  toSlide(screenX, screenY) {
    const { x, y, scale } = this.now;
    return [x + (screenX - this.screen.width / 2) / scale, y + (screenY - this.screen.height / 2) / scale];
  }

  /** Come nearer to where it should be; return whether there is still a way to go. */
  step(time) {
    const share = 1 - Math.exp(-Math.min(time - this.stepped, 64) / EASE_MS);
    this.stepped = time;
    const { now, aim } = this;
    const left = Math.log(aim.scale / now.scale);
    const away = Math.hypot(aim.x - now.x, aim.y - now.y) * now.scale;
    if (Math.abs(left) < NEAR && away < 0.25) {
      this.now = { ...aim };
      return false;
    }
    now.scale *= Math.exp(left * share);
    const end = this.fixed
      ? { x: this.fixed.x - this.fixed.dx / now.scale, y: this.fixed.y - this.fixed.dy / now.scale }
      : aim;
    const part = this.fixed && Math.abs(left) >= NEAR ? 1 : share;
    now.x += (end.x - now.x) * part;
    now.y += (end.y - now.y) * part;
    if (this.fixed && Math.abs(left) < NEAR) this.fixed = null;
    return true;
  }

  /** Where the slide lies on a canvas of `ratio` pixels to a screen pixel; its corner on a whole one. */
  placed(ratio) {
    const scale = this.now.scale * ratio;
    const width = Math.round(this.screen.width * ratio);
    const height = Math.round(this.screen.height * ratio);
    return {
      scale,
      width,
      height,
      x: Math.round(width / 2 - this.now.x * scale),
      y: Math.round(height / 2 - this.now.y * scale),
    };
  }

  #keepInside() {
    this.aim.x = Math.min(Math.max(this.aim.x, 0), this.slide.width);
    this.aim.y = Math.min(Math.max(this.aim.y, 0), this.slide.height);
  }
}
