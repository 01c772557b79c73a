/* The page of the cohort: a table to sort, to filter, and to go through by keys. */

import { COLUMNS, KINDS, byNeed, kindOf, likelihood } from "./cohort_columns.js";
import { byId, make } from "./dom.js";
import { bindKeys } from "./keys.js";
import { address, askJson } from "./server.js";
import { count, plural } from "./wording.js";

class CohortPage {
  constructor(slides) {
    this.slides = slides;
    this.order = { column: null, isDown: false };
    this.kinds = new Set();
    this.names = [...new Set(slides.flatMap((slide) => Object.keys(slide.probability ?? {})))];
    this.columns = COLUMNS.map((column) =>
      column.id === "probability" && this.names.length === 2 ? { ...column, name: `p(${this.names[1]})` } : column);
    for (const slide of slides) slide.likelihood = likelihood(slide, this.names);
    this.#fillFilters();
    this.#fillHead();
    byId("filters").addEventListener("input", () => this.show());
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    this.show();
  }

  #fillFilters() {
    for (const [id, field] of [["of-label", "label"], ["of-prediction", "prediction"]]) {
      const found = [...new Set(this.slides.map((slide) => slide[field]).filter(Boolean))].sort();
      byId(id).append(...found.map((name) => make("option", { value: name }, name)));
    }
    const counted = KINDS.map(([kind, told]) => [kind, told, this.slides.filter((slide) => kindOf(slide, kind)).length]);
    byId("kinds").replaceChildren(...counted.filter(([, , n]) => n).map(([kind, told, n]) =>
      make("button", { type: "button", class: `kind ${kind}`, "aria-pressed": "false", onclick: (event) => this.#pick(kind, event) },
        `${told} `, make("b", {}, count(n)))));
  }

  #pick(kind, event) {
    const isOn = !this.kinds.delete(kind);
    if (isOn) this.kinds.add(kind);
    event.currentTarget.setAttribute("aria-pressed", String(isOn));
    this.show();
  }

  #fillHead() {
    byId("head").replaceChildren(...this.columns.map((column) =>
      make("th", { scope: "col", class: column.id, "data-column": column.id },
        make("button", { type: "button", onclick: () => this.sort(column) }, column.name))));
  }

  sort(column) {
    const isAgain = this.order.column === column;
    const isDown = isAgain ? !this.order.isDown : Boolean(column.isDown);
    this.order = { column, isDown };
    this.show();
  }

  /** The slides that the filters leave, in order. */
  get chosen() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [label, prediction] = ["of-label", "of-prediction"].map((id) => byId(id).value);
    const found = this.slides.filter((slide) => {
      const text = COLUMNS.map((column) => column.text(slide)).join(" ").toLowerCase();
      return words.every((word) => text.includes(word)) &&
        (!label || slide.label === label) && (!prediction || slide.prediction === prediction) &&
        (!this.kinds.size || [...this.kinds].some((kind) => kindOf(slide, kind)));
    });
    const { column, isDown } = this.order;
    if (!column) return found.sort(byNeed);
    const sign = isDown ? -1 : 1;
    return found.sort((one, other) => compare(column.value(one), column.value(other), sign));
  }

  show() {
    const { chosen } = this;
    byId("rows").replaceChildren(...chosen.map((slide) => this.#row(slide)));
    const all = this.slides.length;
    byId("shown").textContent = chosen.length === all
      ? plural(all, "slide") : `${count(chosen.length)} of ${plural(all, "slide")}`;
    for (const head of byId("head").children) {
      const isIt = head.dataset.column === this.order.column?.id;
      if (isIt) head.setAttribute("aria-sort", this.order.isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    try {
      sessionStorage.setItem("slidebag-order", JSON.stringify(chosen.map((slide) => slide.key).filter(Boolean)));
    } catch {
      // storage is switched off: slides follow each other as in slides.csv
    }
  }

  #row(slide) {
    const link = slide.key && make("a", { href: address(`slides/${slide.key}`) }, slide.slide_id);
    return make("tr", { class: KINDS.map(([kind]) => kind).find((kind) => kindOf(slide, kind)) ?? "" },
      ...this.columns.map((column) =>
        column.id === "slide_id"
          ? make("th", { scope: "row" }, link ?? slide.slide_id)
          : make("td", { class: column.id }, ...column.show(slide))));
  }

  /** Take the focus to the slide so many rows below the one that has it. */
  step(by) {
    const links = [...byId("rows").querySelectorAll("th a")];
    const at = links.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
    links[next]?.focus();
    links[next]?.scrollIntoView({ block: "nearest" });
  }

  clear() {
    byId("filters").reset();
    this.kinds.clear();
    for (const button of byId("kinds").children) button.setAttribute("aria-pressed", "false");
    this.order = { column: null, isDown: false };
    this.show();
  }
}

/** Text by its numbers too, and what is not there last whichever way round. */
function compare(one, other, sign) {
  const isMissing = [one, other].map((value) => value === null || value === undefined || value === "");
  if (isMissing.some(Boolean)) return isMissing[0] - isMissing[1];
  if (typeof one === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}

async function start() {
  try {
    const { run, slides } = await askJson("api/cohort");
    document.title = `${run} · slidebag`;
    byId("run").textContent = run;
    const page = new CohortPage(slides);
    bindKeys([
      ["ArrowDown j", "next slide", () => page.step(1)],
      ["ArrowUp k", "slide before", () => page.step(-1)],
      ["Enter", "open the slide that has the focus", () => document.activeElement.click()],
      ["/", "search", () => byId("search").focus()],
      ["Escape", "all slides, as at first", () => page.clear()],
      ["d", "dark or light", () => byId("theme").click()],
    ]);
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Escape") page.clear();
      if (["Escape", "Enter", "ArrowDown"].includes(event.key)) {
        event.preventDefault();
        page.step(1);
      }
    });
  } catch (problem) {
    byId("problems").replaceChildren(
      make("p", {}, problem.message, make("span", { class: "hint" }, problem.hint ?? "")));
  }
  byId("table").setAttribute("aria-busy", "false");
}

await start();
