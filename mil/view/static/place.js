/* The place that is seen, in the page's address: it can be kept, sent, and gone back to. */

const LATER_MS = 250;

export function bindPlace(stage) {
  const { view } = stage;
  let shown = "";
  let timer = 0;

  function go() {
    const told = new URLSearchParams(location.hash.slice(1));
    const [x, y, scale] = ["x", "y", "zoom"].map((name) => Number.parseFloat(told.get(name)));
    if (![x, y, scale].every(Number.isFinite) || location.hash === shown) return;
    view.go({ x, y, scale }, true);
    stage.redraw();
  }

  function write() {
    const { x, y, scale } = view.now;
    shown = `#x=${Math.round(x)}&y=${Math.round(y)}&zoom=${+scale.toPrecision(6)}`;
    history.replaceState(null, "", shown);
  }

  const drawn = stage.whenDrawn;
  stage.whenDrawn = (isMoving) => {
    drawn(isMoving);
    clearTimeout(timer);
    if (!isMoving) timer = setTimeout(write, LATER_MS);
  };
  window.addEventListener("hashchange", go);
  go();
}
