/* Keys of a page, and the dialog that tells them: one table for both. */

import { byId, make } from "./dom.js";

const OF_CONTROLS = /^(Arrow.*|PageUp|PageDown|Home|End|Enter|Space)$/;

/** Whether a key belongs to the control that has the focus. */
function isTaken(target, name) {
  if (target.matches("textarea, select, input:not([type=range]):not([type=checkbox])")) return true;
  return target.matches("input, button, a, summary") && OF_CONTROLS.test(name) &&
    (target.matches("input") || /^(Enter|Space)$/.test(name));
}

/**
 * Let keys do things. `keys` are [name, what it does in words, function]; several names stand in one text
 * between spaces, and a name is KeyboardEvent.key, "Space" for the space bar.
 */
export function bindKeys(keys) {
  const help = byId("help");
  const actions = new Map();
  for (const [names, , does] of keys) for (const name of names.split(" ")) actions.set(name, does);
  actions.set("?", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const name = event.key === " " ? "Space" : event.key;
    const does = actions.get(name);
    if (!does || isTaken(event.target, name)) return;
    event.preventDefault();
    does(event);
  });
  const shown = [...keys, ["?", "this list"]].map(([names, told]) =>
    make("div", {}, make("dt", {}, ...names.split(" ").flatMap((name) => [make("kbd", {}, plain(name)), " "])),
      make("dd", {}, told)));
  byId("keys").replaceChildren(...shown);
  byId("show-help").addEventListener("click", () => help.showModal());
}

function plain(name) {
  const arrows = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };
  return arrows[name] ?? name;
}
