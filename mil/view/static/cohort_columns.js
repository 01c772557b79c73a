/* The columns of the cohort's table, and what makes a slide worth a look. */

import { make } from "./dom.js";
import { count, probability } from "./wording.js";

/** Kinds of slides that one may want to see alone, the most urgent first. */
export const KINDS = [
  ["failed", "failed"],
  ["wrong", "wrong"],
  ["flagged", "flagged"],
  ["right", "right"],
  ["unlabelled", "without label"],
];

export function kindOf(slide, kind) {
  switch (kind) {
    case "failed": return slide.status === "failed";
    case "wrong": return slide.is_wrong === true;
    case "flagged": return Boolean(slide.flags?.length || slide.problems.length);
    case "right": return slide.is_wrong === false;
    default: return Boolean(slide.key) && !slide.label;
  }
}

/** The order of texts: by their numbers too. */
export const byText = new Intl.Collator(undefined, { numeric: true }).compare;

/** The probability to sort by: of the second of two classes, else of the one that is called. */
export function likelihood(slide, names) {
  const name = names.length === 2 ? names[1] : slide.prediction;
  return slide.probability?.[name] ?? null;
}

/** What failed first, then what is wrong, the surest first, then what has flags. */
export function byNeed(one, other) {
  const need = (slide) => KINDS.findIndex(([kind]) => kindOf(slide, kind));
  const rank = (slide) => (need(slide) < 0 ? KINDS.length : need(slide));
  const sure = (slide) => slide.probability?.[slide.prediction] ?? 0;
  return rank(one) - rank(other) || (one.is_wrong ? sure(other) - sure(one) : 0) ||
    byText(one.slide_id, other.slide_id);
}

const plain = (id, name) => ({
  id,
  name,
  value: (slide) => slide[id],
  text: (slide) => slide[id] ?? "",
  show: (slide) => [slide[id] ?? ""],
});

function notes(slide) {
  const problems = slide.problems.map(({ step, error, hint }) =>
    make("p", { class: "problem" }, make("b", {}, step && `${step}: `), error,
      hint ? make("span", { class: "hint" }, hint) : null));
  const flags = (slide.flags ?? []).map((flag) => make("span", { class: "chip flag" }, flag));
  return [...problems, ...flags];
}

function bar(value) {
  if (value === null) return ["–"];
  const filled = make("span", { class: "fill" });
  filled.style.width = `${(100 * value).toFixed(1)}%`;
  return [make("span", { class: "meter", "aria-hidden": "true" }, filled), probability(value)];
}

export const COLUMNS = [
  plain("slide_id", "Slide"),
  plain("patient_id", "Patient"),
  plain("label", "Label"),
  {
    ...plain("prediction", "Prediction"),
    show: (slide) => {
      if (!slide.prediction || slide.is_wrong === null) return [slide.prediction ?? ""];
      return [make("span", { class: slide.is_wrong ? "chip wrong" : "chip right" },
        `${slide.is_wrong ? "✗" : "✓"}\u00a0${slide.prediction}`, make("span", { class: "unseen" }, slide.is_wrong ? ", wrong" : ", right"))];
    },
  },
  {
    id: "probability",
    name: "Probability",
    isDown: true,
    value: (slide) => slide.likelihood,
    text: () => "",
    show: (slide) => bar(slide.likelihood),
  },
  {
    ...plain("n_tiles", "Tiles"),
    isDown: true,
    text: () => "",
    show: (slide) => [slide.n_tiles ? count(slide.n_tiles) : ""],
  },
  {
    ...plain("status", "Status"),
    show: (slide) => [make("span", { class: slide.status === "failed" ? "chip failed" : "" }, slide.status)],
  },
  {
    id: "notes",
    name: "Notes",
    isDown: true,
    value: (slide) => 2 * slide.problems.length + (slide.flags?.length ?? 0),
    text: (slide) => [...slide.problems.flatMap(({ step, error, hint }) => [step, error, hint]), ...(slide.flags ?? [])].join(" "),
    show: notes,
  },
];
