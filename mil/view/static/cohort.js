/* The page of the cohort: a table to sort, to filter, and to go through by keys. */

import { COLUMNS, KINDS, byNeed, byText, kindOf, likelihood } from "./cohort_columns.js";
import { byId, keepInTab, keptInTab, make } from "./dom.js";
import { bindKeys } from "./keys.js";
import { address, askJson } from "./server.js";
import { tellProblems } from "./slide_frame.js";
import { count, plural } from "./wording.js";

const AT_ONCE = 200; // rows, more of them as one comes near the last: thousands would take seconds
const TOO_LONG = /[^\s-]{21}/; // a word that is broken anywhere rather than make its column wide
const SEARCH_MS = 100; // after the last letter

class CohortPage {
  constructor(slides) {
    this.slides = slides;
    this.order = { column: null, isDown: false };
    this.kinds = new Set();
    this.names = [...new Set(slides.flatMap((slide) => Object.keys(slide.probability ?? {})))];
    this.columns = COLUMNS.map((column) =>
      column.id === "probability" && this.names.length === 2 ? { ...column, name: `p(${this.names[1]})` } : column);
    for (const slide of slides) {
      slide.likelihood = likelihood(slide, this.names);
      slide.text = COLUMNS.map((column) => column.text(slide)).join(" ").toLowerCase();
    }
    this.end = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.#append(), {
      root: byId("table").parentElement,
      rootMargin: "800px",
    });
    this.#fillFilters();
    this.#fillHead();
    byId("filters").addEventListener("input", (event) => (event.target.id === "search" ? this.showLater() : this.show()));
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    this.#restore();
    this.show();
    this.#focus(keptInTab("seen"));
  }

  /** Filter and sort as when this tab last showed the table. */
  #restore() {
    const { search, label, prediction, kinds, column, isDown } = keptInTab("table") ?? {};
    byId("search").value = search ?? "";
    for (const [id, value] of [["of-label", label], ["of-prediction", prediction]])
      if ([...byId(id).options].some((option) => option.value === value)) byId(id).value = value;
    for (const button of byId("kinds").children)
      if (kinds?.includes(button.dataset.kind)) this.#pick(button);
    this.order = { column: this.columns.find(({ id }) => id === column) ?? null, isDown: Boolean(isDown) };
  }

  #keep() {
    const [search, label, prediction] = ["search", "of-label", "of-prediction"].map((id) => byId(id).value);
    const { column, isDown } = this.order;
    keepInTab("table", { search, label, prediction, kinds: [...this.kinds], column: column?.id ?? null, isDown });
    keepInTab("order", this.chosen.map((slide) => slide.key).filter(Boolean));
  }

  #fillFilters() {
    for (const [id, field] of [["of-label", "label"], ["of-prediction", "prediction"]]) {
      const found = [...new Set(this.slides.map((slide) => slide[field]).filter(Boolean))].sort();
      byId(id).append(...found.map((name) => make("option", { value: name }, name)));
    }
    const counted = KINDS.map(([kind, told]) => [kind, told, this.slides.filter((slide) => kindOf(slide, kind)).length]);
    byId("kinds").replaceChildren(...counted.filter(([, , n]) => n).map(([kind, told, n]) =>
      make("button", { type: "button", class: `kind ${kind}`, "data-kind": kind, "aria-pressed": "false", onclick: (event) => {
        this.#pick(event.currentTarget);
        this.show();
      } }, `${told} `, make("b", {}, count(n)))));
  }

  #pick(button) {
    const { kind } = button.dataset;
    const isOn = !this.kinds.delete(kind);
    if (isOn) this.kinds.add(kind);
    button.setAttribute("aria-pressed", String(isOn));
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
  #choose() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [label, prediction] = ["of-label", "of-prediction"].map((id) => byId(id).value);
    const found = this.slides.filter((slide) =>
      words.every((word) => slide.text.includes(word)) &&
        (!label || slide.label === label) && (!prediction || slide.prediction === prediction) &&
        (!this.kinds.size || [...this.kinds].some((kind) => kindOf(slide, kind))));
    const { column, isDown } = this.order;
    if (!column) return found.sort(byNeed);
    const sign = isDown ? -1 : 1;
    return found.sort((one, other) => compare(column.value(one), column.value(other), sign));
  }

  /** Show what is left once nothing more is typed. */
  showLater() {
    byId("table").setAttribute("aria-busy", "true");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(), SEARCH_MS);
  }

  show() {
    clearTimeout(this.timer);
    this.chosen = this.#choose();
    byId("rows").replaceChildren();
    byId("table").parentElement.scrollTop = 0;
    this.#append();
    const { length } = this.chosen;
    const all = this.slides.length;
    byId("shown").textContent = length === all ? plural(all, "slide") : `${count(length)} of ${plural(all, "slide")}`;
    for (const head of byId("head").children) {
      const isIt = head.dataset.column === this.order.column?.id;
      if (isIt) head.setAttribute("aria-sort", this.order.isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    this.#keep();
    byId("table").setAttribute("aria-busy", "false");
  }

  /** Add the next rows to the table. */
  #append() {
    const rows = byId("rows");
    const from = rows.children.length;
    rows.append(...this.chosen.slice(from, from + AT_ONCE).map((slide) => this.#row(slide)));
    this.end.disconnect();
    if (rows.children.length < this.chosen.length) this.end.observe(rows.lastElementChild);
  }

  /** Take the focus to the row of a slide that the filters leave. */
  #focus(key) {
    const at = this.chosen.findIndex((slide) => slide.key && slide.key === key);
    while (byId("rows").children.length <= at) this.#append();
    this.#goTo(byId("rows").children[at]?.querySelector("a"), "center");
  }

  #goTo(link, block) {
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block });
  }

  #row(slide) {
    const link = slide.key && make("a", { href: address(`slides/${slide.key}`) }, slide.slide_id);
    return make("tr", { class: KINDS.map(([kind]) => kind).find((kind) => kindOf(slide, kind)) ?? "" },
      ...this.columns.map((column) => {
        const length = TOO_LONG.test(column.text(slide)) ? " long" : "";
        return column.id === "slide_id"
          ? make("th", { scope: "row", class: length.trim() }, link ?? slide.slide_id)
          : make("td", { class: `${column.id}${length}` }, ...column.show(slide));
    }));
  }

  /** Take the focus to the slide so many rows below the one that has it. */
  step(by) {
    const { activeElement: active } = document;
    const find = () => [...byId("rows").querySelectorAll("th a")];
    let links = find();
    const at = links.indexOf(active);
    if (at + by >= links.length && links.length < this.chosen.length) {
      this.#append();
      links = find();
    }
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
    this.#goTo(links[next], "nearest");
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
  return sign * byText(String(one), String(other));
}

async function start() {
  try {
    const { run, has_report, slides, problems } = await askJson("api/cohort");
    document.title = `${run} · slidebag`;
    byId("run").textContent = run;
    byId("report").hidden = !has_report;
    tellProblems(problems);
    const page = new CohortPage(slides);
    bindKeys([
      ["ArrowDown j", "next slide", () => page.step(1)],
      ["ArrowUp k", "slide before", () => page.step(-1)],
      ["Enter", "open the slide that has the focus", () => document.activeElement.click()],
      ["/", "search", () => byId("search").focus()],
      ["Escape", "all slides, as at first", () => page.clear()],
      ...(has_report ? [["r", "the report", () => byId("report").click()]] : []),
      ["d", "dark or light", () => byId("theme").click()],
    ]);
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "Escape") page.clear();
      if (["Escape", "Enter", "ArrowDown"].includes(event.key)) {
        event.preventDefault();
        if (byId("table").getAttribute("aria-busy") === "true") page.show();
        page.step(1);
      }
    });
  } catch (problem) {
    tellProblems([{ step: "", error: problem.message, hint: problem.hint }]);
    byId("table").setAttribute("aria-busy", "false");
  }
}

await start();
