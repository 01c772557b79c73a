/* What stands around a slide: what it was called, what went wrong, where the next one is. */

import { byId, keep, kept, keptInTab, make } from "./dom.js";
import { address } from "./server.js";
import { probability } from "./wording.js";

/** A problem of the browser's as one of the run's. */
export function asRow(problem) {
  return { step: "slide", error: problem.message, hint: problem.hint };
}

/** Tell what went wrong, each with its way out. */
export function tellProblems(problems) {
  const told = problems.map(({ step, error, hint }) =>
    make("p", {}, make("b", {}, step && `${step}: `), error, hint ? make("span", { class: "hint" }, hint) : null));
  if (told.length)
    told.push(make("button", { type: "button", "aria-label": "close", onclick: () => byId("problems").replaceChildren() }, "×"));
  byId("problems").replaceChildren(...told);
}

/** Tell what the slide, or its patient, was called, and whether that is right. */
export function tellCalled(slide) {
  const [whose, label] = slide.is_of_patient ? ["patient: ", "label of the patient"] : ["", "label"];
  const known = slide.prediction ? slide.probability[slide.prediction] : null;
  const parts = [];
  if (slide.prediction)
    parts.push(make("span", { class: "chip" }, `${whose}${slide.prediction} `, make("b", {}, known === undefined ? "" : probability(known))));
  if (slide.is_wrong !== null)
    parts.push(make("span", { class: slide.is_wrong ? "chip wrong" : "chip right" },
      `${slide.is_wrong ? "✗" : "✓"} ${label}: ${slide.truth}`));
  byId("called").replaceChildren(...parts);
}

/** The slides before and after, in the order in which the cohort's table was seen. */
function neighbours(slide, key) {
  const known = new Set(slide.slides);
  const seen = keptInTab("order") ?? [];
  const order = seen.includes(key) ? seen.filter((other) => known.has(other)) : slide.slides;
  const at = order.indexOf(key);
  return [order[at - 1], order[at + 1]];
}

/** Lead to the slides before and after. */
export function bindNeighbours(slide, key) {
  const found = neighbours(slide, key);
  ["before", "after"].forEach((id, number) => {
    const link = byId(id);
    if (found[number]) link.href = address(`slides/${found[number]}`);
    else for (const [name, value] of [["role", "link"], ["aria-disabled", "true"]]) link.setAttribute(name, value);
  });
}

/** Let the panel be closed, and remember it. */
export function bindPanel() {
  const button = byId("toggle-panel");
  const show = (isOpen) => {
    document.body.classList.toggle("without-panel", !isOpen);
    button.setAttribute("aria-expanded", String(isOpen));
  };
  show(kept("panel") !== "closed");
  button.addEventListener("click", () => {
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    keep("panel", isOpen ? "open" : "closed");
    show(isOpen);
  });
}
