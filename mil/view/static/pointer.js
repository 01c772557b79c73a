/* Mouse, pen and fingers on the stage: drag to move, wheel or pinch to zoom, point at a tile. */

const WHEEL = 0.0016;
const LINE_PX = 24; // of a wheel that counts in lines
const TAP_PX = 6;

export function bindPointers(stage, pointedAt) {
  const { canvas, view } = stage;
  const down = new Map();
  let travelled = 0;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const changed = () => stage.redraw();

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const px = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PX : 1);
    view.zoom(Math.exp(-px * WHEEL * (event.ctrlKey ? 6 : 1)), ...at(event)); // pads tell pinches by ctrl
    changed();
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return; // the menu of a page would take its end
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    travelled = 0;
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (!event.buttons) down.delete(event.pointerId); // it was let go of elsewhere
    const before = down.get(event.pointerId);
    if (!before) {
      pointedAt(...view.toSlide(...now));
      return;
    }
    travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (down.size === 1) view.pan(now[0] - before[0], now[1] - before[1], true);
    else if (down.size === 2) pinch(event.pointerId, before, now);
    down.set(event.pointerId, now);
    changed();
  });

  function pinch(moved, before, now) {
    const [other] = [...down].filter(([id]) => id !== moved).map(([, place]) => place);
    const apart = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    view.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2, true);
    view.zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    view.now = { ...view.aim };
  }

  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => {
      down.delete(event.pointerId);
      if (end === "pointerup" && travelled < TAP_PX) pointedAt(...view.toSlide(...at(event)));
    });

  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") pointedAt(null, null); // a finger's last place is still looked at
  });
  canvas.addEventListener("dblclick", (event) => {
    view.zoom(event.shiftKey ? 0.5 : 2, ...at(event));
    changed();
  });
}
